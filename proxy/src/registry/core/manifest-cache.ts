import type { Digest } from '@sepia/base/digest';
import { LINK_BELIEF_MS, LinkLedger } from '@sepia/cluster/core/link-ledger';

/** A manifest's bytes as pushed, and the type to serve them under. */
export interface CachedManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Uint8Array;
}

/** Cost of an entry beside its bytes: keys, maps, objects. A round guess. */
const ENTRY_OVERHEAD_BYTES = 512;

/**
 * Manifests by the link that they are served by: a digest learned elsewhere opens nothing. The bytes are kept, not
 * copied: give some that are alone in their memory.
 */
export type ManifestCache = LinkLedger<CachedManifest>;

/** A cache of at most `limitBytes`. Where nothing is deleted a manifest stays until others need its room. */
export function createManifestCache(
  limitBytes: number,
  takesDeletes: (upstream: string) => boolean,
): ManifestCache {
  return new LinkLedger({
    beliefMs: (upstream) => (takesDeletes(upstream) ? LINK_BELIEF_MS.member : Number.POSITIVE_INFINITY),
    limit: limitBytes,
    costOf: ({ bytes }) => bytes.length + ENTRY_OVERHEAD_BYTES,
    isForgetful: true,
  });
}
