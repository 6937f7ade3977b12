import { askInTurn } from '@sepia/base/async/ask-many';
import { isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { ResolvedName } from '@sepia/base/names/upstream-name';
import { H_CHANGE } from '@sepia/cluster/api/headers';
import { ORIGIN_BLOBS, ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { type RouteCall, to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import { isDefinite } from '@sepia/cluster/core/answers';
import type { RegistryHandler } from '@sepia/face/registry-app';
import { goneSignal } from '@sepia/http/client-gone';
import { referenceText } from '@sepia/oci/route';
import { whileAlive } from '../bodies/blob-source.ts';
import { newChange, type Origins } from '../cluster/origins.ts';
import { DELETE_MS } from '../deadlines.ts';
import { sendEmpty } from './answers.ts';
import type { ManifestCache } from './core/manifest-cache.ts';

interface DeleteDeps {
  readonly origins: Origins;
  readonly cache: Pick<ManifestCache, 'revoke'>;
}

/** DELETE of a tag, or of a manifest with the tags that point at it: 202 once it is durable and members were told. */
export function deleteManifest(deps: DeleteDeps): RegistryHandler<'manifest'> {
  return async (ctx, target, { reference }) => {
    const call = to(ORIGIN_NAMES.manifestDelete, { ...target, reference: referenceText(reference) });
    try {
      await drop(deps.origins, target, call, goneSignal(ctx));
    } finally {
      // The origins' word of it may come later than the answer, and what failed may be deleted all the same.
      if (reference.kind === 'digest') deps.cache.revoke([{ ...target, digest: reference.digest }]);
    }
    sendEmpty(ctx, 202);
  };
}

/** DELETE of a blob's link. */
export function deleteBlob(deps: Pick<DeleteDeps, 'origins'>): RegistryHandler<'blob'> {
  return async (ctx, target, { digest }) => {
    const call = to(ORIGIN_BLOBS.blobDelete, { ...target, digest });
    await drop(deps.origins, target, call, goneSignal(ctx));
    sendEmpty(ctx, 202);
  };
}

/** Asks one origin after the other; what one that went silent may have deleted is not unknown to the client. */
async function drop(
  origins: Origins,
  target: ResolvedName,
  call: RouteCall,
  signal: AbortSignal,
): Promise<void> {
  const tries = origins.tries(shardKey(target.upstream, target.repository));
  const headers = { [H_CHANGE]: newChange() };
  let maybeDone = false;
  const ask = async (id: string): Promise<void> => {
    try {
      const answer = await whileAlive(origins, id, signal, (running) =>
        origins.call(id, {
          ...call,
          headers,
          headersTimeoutMs: DELETE_MS,
          signal: running,
        }),
      );
      await answer.body.dump();
    } catch (error) {
      throwIfBug(error);
      if (maybeDone && isUnknown(error)) return;
      maybeDone = true;
      throw error;
    }
  };
  const isFinal = (error: unknown): boolean => isDefinite(error) || isUnfinished(error);
  await askInTurn(tries, ask, { signal, isFinal });
}

/** An origin was at it as long as it may, and says how much is left: it is for the client to go on. */
function isUnfinished(error: unknown): boolean {
  return isCoded(error, 'TIMEOUT') && typeof error.detail['left'] === 'number';
}

function isUnknown(error: unknown): boolean {
  return (
    isCoded(error, 'MANIFEST_UNKNOWN') || isCoded(error, 'TAG_UNKNOWN') || isCoded(error, 'BLOB_UNKNOWN')
  );
}
