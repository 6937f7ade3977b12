import { fewAtOnce } from '@sepia/base/async/few-at-once';
import type { Digest } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { RepositoryName } from '@sepia/base/names/repository';
import type { Manifests } from '../manifests/manifests.ts';
import { namesOf } from './core/names.ts';
import type { GcRead } from './core/sweep.ts';

/** Manifests that are read at once. */
const READS = 8;

/** What manifests name; those that cannot be read now are left out. */
export async function readNames(
  { manifests, log }: { readonly manifests: Pick<Manifests, 'get'>; readonly log: Logger },
  shard: { readonly upstream: string; readonly repository: RepositoryName },
  digests: readonly Digest[],
): Promise<Map<Digest, GcRead>> {
  const names = new Map<Digest, GcRead>();
  await fewAtOnce(digests, READS, async (digest) => {
    try {
      const { bytes, mediaType } = await manifests.get(shard, { kind: 'digest', digest }, false);
      names.set(digest, namesOf(bytes, mediaType));
    } catch (error) {
      const isNone = isCoded(error, 'MANIFEST_UNKNOWN');
      if (isNone) names.set(digest, 'no-manifest');
      const facts = { ...shard, digest };
      logFailure(log, error, 'manifest not read for garbage collection', facts, isNone ? 'debug' : 'warn');
    }
  });
  return names;
}
