import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import type { BlobStore } from '@sepia/store/blob-store';
import type { PartialBlob } from '@sepia/store/partial-blob';
import type { Trust } from './trust.ts';

interface Deps {
  readonly store: Pick<BlobStore, 'openPartial'>;
  readonly trust: Pick<Trust, 'suspect'>;
  readonly log: Logger;
  /** Aborted once nothing is to begin any more. */
  readonly stopped: AbortSignal;
}

/**
 * The partial of a blob, by what the cluster says of it now. Release it once; where this fails nobody has it open.
 * @throws as `BlobStore.openPartial` and `PartialBlob.learn`; the reason of `stopped`
 */
export async function openedPartial(deps: Deps, name: BlobName, metainfo: Metainfo): Promise<PartialBlob> {
  const { store, log, stopped } = deps;
  const { digest } = name;
  const partial = await store.openPartial(digest, metainfo.sizeBytes, {
    metainfo,
    // While it is open, the cluster vouches for no more of it than that upstream has sent.
    ...(metainfo.state === 'open' ? { source: name.upstream } : {}),
  });
  try {
    await learn(deps, partial, metainfo);
    stopped.throwIfAborted();
    return partial;
  } catch (error) {
    await partial
      .release()
      .catch((failure: unknown) => logFailure(log, failure, 'partial was not closed', { digest }));
    throw error;
  }
}

async function learn({ trust, log }: Deps, partial: PartialBlob, metainfo: Metainfo): Promise<void> {
  const before = partial.metainfo;
  if ((await partial.learn(metainfo)) === 'replaced') {
    trust.suspect(before);
    const level = before.state === 'final' ? 'error' : 'info';
    log[level]({ digest: partial.digest }, 'an older attempt was dropped');
  }
  if (metainfo.state === 'final') partial.trustTree();
}
