import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import type { RepositoryName } from '@sepia/base/names/repository';
import { type Descriptor, parseManifest } from '@sepia/oci/manifest';

/** Deepest nesting of indexes, and most descriptors below one manifest. */
const MAX_DEPTH = 8;
const MAX_NAMED = 50_000;

type Shard = { readonly upstream: string; readonly repository: RepositoryName };
/** The bytes of a manifest of a repository. */
export type ReadManifest = (name: Shard, digest: Digest) => Promise<{ readonly bytes: Uint8Array }>;

/**
 * All that is named below `descriptors`, each digest once: who points at a manifest anew links all of this anew, so that
 * a collection that found it unreferenced leaves it. Whether it is there is not asked. @throws `QUORUM_LOST`, `MANIFEST_SYNTAX`
 */
export async function closureOf(
  read: ReadManifest,
  name: Shard,
  descriptors: readonly Descriptor[],
): Promise<Descriptor[]> {
  const found = new Map<Digest, Descriptor>();
  let level = descriptors.filter((one) => !one.foreign);
  for (let depth = 0; level.length > 0; depth++) {
    const next: Descriptor[] = [];
    for (const one of level) {
      if (found.has(one.digest)) continue;
      found.set(one.digest, one);
      if (one.kind !== 'child') continue;
      if (depth >= MAX_DEPTH || found.size > MAX_NAMED)
        throw new CodedError('MANIFEST_SYNTAX', { message: 'manifest leads to too much, or nests too deep' });
      next.push(...(await childrenOf(read, name, one.digest)).filter((child) => !child.foreign));
    }
    level = next;
  }
  return [...found.values()];
}

/** What a manifest names; nothing where the digest is no manifest, or none that is here. @throws `QUORUM_LOST` */
export async function childrenOf(
  read: ReadManifest,
  name: Shard,
  digest: Digest,
): Promise<readonly Descriptor[]> {
  try {
    const { bytes } = await read(name, digest);
    return parseManifest(bytes, undefined).descriptors;
  } catch (error) {
    // No manifest, or none that is here: whether it is linked is asked of all that is named.
    if (!isCoded(error, 'MANIFEST_SYNTAX') && !isCoded(error, 'MANIFEST_UNKNOWN')) throw error;
    return [];
  }
}
