import { fewAtOnce } from '@sepia/base/async/few-at-once';
import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import type { RepositoryName } from '@sepia/base/names/repository';
import { isKnownType } from '@sepia/oci/manifest';
import type { Kept } from '../blobs/kept.ts';
import { NEEDED_MS } from '../deadlines/upstreams.ts';
import type { Links } from '../records/links.ts';
import { upstreamError } from '../upstream/upstream-failure.ts';
import type { Upstreams } from '../upstream/upstreams.ts';

const AT_ONCE = 8;

interface KeepDeps {
  readonly links: Pick<Links, 'find'>;
  readonly keeps: Pick<Kept, 'byOwners'>;
  readonly upstreams: Pick<Upstreams, 'client'>;
}

/** What a pushed manifest needs, and the manifest itself. */
interface Needed {
  readonly digest: Digest;
  readonly mediaType?: string | undefined;
}

/**
 * What a push to an upstream of mode write-back needs is kept until the registry behind has the push, also where it had
 * the content before and origins hold it as cached copies by now: it may go there meanwhile. Called when the push's job
 * is on record (`origin/src/write-back/arrivals.ts`). What no origin holds must be at the registry at this moment.
 * @throws `MANIFEST_BLOB_MISSING` for what is nowhere, `QUORUM_LOST` where that cannot be said
 */
export async function keepNeeded(
  deps: KeepDeps,
  name: { readonly upstream: string; readonly repository: RepositoryName },
  needed: readonly Needed[],
): Promise<void> {
  const distinct = new Map(needed.map((one) => [one.digest, one]));
  const signal = AbortSignal.timeout(NEEDED_MS);
  await fewAtOnce([...distinct.values()], AT_ONCE, async (one) => {
    const { digest } = one;
    // Links by pushes prove that the repository had the bytes; of others only what it brought itself is kept.
    const link = await deps.links.find({ ...name, digest });
    const kept = await deps.keeps.byOwners({ ...name, digest }, link?.pushed === true);
    if (kept === 'quorum' || kept === 'some') return;
    const detail = { digests: [digest] };
    try {
      await atRegistry(deps, name, one, signal);
    } catch (thrown) {
      const error = upstreamError(thrown, name.upstream);
      const isUnknown = ['BLOB_UNKNOWN', 'MANIFEST_UNKNOWN', 'REPOSITORY_UNKNOWN'].includes(error.code);
      if (isUnknown && kept === 'none')
        throw new CodedError('MANIFEST_BLOB_MISSING', {
          message: `manifest names content that is neither here nor at the registry behind any more: ${digest}`,
          detail,
        });
      throw new CodedError('QUORUM_LOST', {
        message:
          'no origin is known to hold what the manifest names, nor does the registry behind say that it does',
        detail,
        cause: error,
      });
    }
  });
}

async function atRegistry(
  { upstreams }: Pick<KeepDeps, 'upstreams'>,
  { upstream, repository }: { readonly upstream: string; readonly repository: RepositoryName },
  { digest, mediaType }: Needed,
  signal: AbortSignal,
): Promise<void> {
  const client = upstreams.client(upstream)!;
  if (isKnownType(mediaType ?? ''))
    await client.headManifest({ repository, reference: { kind: 'digest', digest } }, signal);
  else await client.headBlob({ repository, digest }, signal);
}
