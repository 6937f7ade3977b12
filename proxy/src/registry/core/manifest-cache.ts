import type { Digest } from '@sepia/base/digest';

/** A manifest's bytes as pushed, and the type to serve them under. */
export interface CachedManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Uint8Array;
}

/** Cost of an entry beside its bytes: keys, maps, objects. A round guess. */
const ENTRY_OVERHEAD_BYTES = 512;

interface Entry extends CachedManifest {
  readonly untilMs: number;
}

/**
 * Manifests by repository and digest, least recently used out first, at most `limitBytes`. The repository is part
 * of the key, since a digest learned elsewhere opens nothing.
 */
export class ManifestCache {
  readonly #limitBytes: number;
  readonly #entries = new Map<string, Entry>();
  #usedBytes = 0;
  #revision = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Grows with each revocation: see {@link put}. */
  get revision(): number {
    return this.#revision;
  }

  get(shard: string, digest: Digest, nowMs: number): CachedManifest | undefined {
    const key = keyOf(shard, digest);
    const found = this.#entries.get(key);
    if (found === undefined) return undefined;
    if (found.untilMs <= nowMs) {
      this.delete(shard, digest);
      return undefined;
    }
    this.#entries.delete(key);
    this.#entries.set(key, found);
    return found;
  }

  /**
   * Takes the manifest until `untilMs`, unless it alone exceeds the limit or something was revoked since `revision`,
   * when it was asked for. The bytes are kept, not copied.
   */
  put(
    shard: string,
    manifest: CachedManifest,
    belief: { readonly untilMs: number; readonly revision: number },
  ): void {
    const cost = costOf(manifest);
    if (cost > this.#limitBytes || belief.revision !== this.#revision) return;
    const { digest, mediaType, bytes } = manifest;
    this.delete(shard, digest);
    this.#entries.set(keyOf(shard, digest), { digest, mediaType, bytes, untilMs: belief.untilMs });
    this.#usedBytes += cost;
    for (const [key, oldest] of this.#entries) {
      if (this.#usedBytes <= this.#limitBytes) return;
      this.#entries.delete(key);
      this.#usedBytes -= costOf(oldest);
    }
  }

  /** Forgets manifests that were deleted: (shard, digest). */
  revoke(revoked: readonly (readonly [shard: string, digest: Digest])[]): void {
    this.#revision += 1;
    for (const [shard, digest] of revoked) this.delete(shard, digest);
  }

  delete(shard: string, digest: Digest): void {
    const key = keyOf(shard, digest);
    const found = this.#entries.get(key);
    if (found === undefined) return;
    this.#entries.delete(key);
    this.#usedBytes -= costOf(found);
  }
}

function keyOf(shard: string, digest: Digest): string {
  return `${shard}\n${digest}`;
}

function costOf(manifest: CachedManifest): number {
  return manifest.bytes.length + ENTRY_OVERHEAD_BYTES;
}
