import { fewAtOnce } from '@sepia/base/async/few-at-once';
import type { Digest } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { RepositoryName } from '@sepia/base/names/repository';
import type { Manifests } from '../manifests/manifests.ts';
import { namesOf } from './core/names.ts';
import type { GcRead } from './core/sweep.ts';

/** Manifests that are read at once. */
const READS = 8;
const UNREAD = 'manifest not read for garbage collection';

interface NamesDeps {
  readonly manifests: Pick<Manifests, 'get'>;
  /** The bytes of a blob that is small enough to be a manifest, wherever it is; undefined of one that is larger. */
  readonly bytesOf: (name: BlobName) => Promise<Uint8Array | undefined>;
  readonly log: Logger;
}

/**
 * What manifests name; those that cannot be read now are left out. Of what is served as no manifest, and may have been pushed as
 * one of a kind that nothing tells by now, every digest in its text counts.
 */
export async function readNames(
  { manifests, bytesOf, log }: NamesDeps,
  shard: { readonly upstream: string; readonly repository: RepositoryName },
  digests: readonly Digest[],
): Promise<Map<Digest, GcRead>> {
  const names = new Map<Digest, GcRead>();
  await fewAtOnce(digests, READS, async (digest) => {
    const name = { ...shard, digest };
    try {
      const { bytes, mediaType } = await manifests.get(shard, { kind: 'digest', digest }, 'ask');
      names.set(digest, namesOf(bytes, mediaType));
    } catch (error) {
      const isNone = isCoded(error, 'MANIFEST_UNKNOWN');
      logFailure(log, error, UNREAD, { ...name }, isNone ? 'debug' : 'warn');
      if (isNone) await readText(name);
    }
  });
  return names;

  async function readText(name: BlobName): Promise<void> {
    try {
      const bytes = await bytesOf(name);
      const found = bytes === undefined ? undefined : namesOf(bytes, '');
      names.set(name.digest, found === undefined || isEmpty(found.manifests) ? 'no-manifest' : found);
    } catch (error) {
      // What is nowhere names nothing.
      const isNowhere = isCoded(error, 'BLOB_UNKNOWN');
      if (isNowhere) names.set(name.digest, 'no-manifest');
      logFailure(log, error, UNREAD, { ...name }, isNowhere ? 'debug' : 'warn');
    }
  }
}

function isEmpty(digests: Iterable<Digest>): boolean {
  for (const _ of digests) return false;
  return true;
}
