import type { Digest } from '@sepia/shared/digest';

/** A manifest's bytes as pushed, and the type to serve them under. */
export interface CachedManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Uint8Array;
}

/** Cost of an entry beside its bytes: keys, maps, objects. A round guess. */
const ENTRY_OVERHEAD_BYTES = 512;

/**
 * Manifests by repository and digest, least recently used out first, at most `limitBytes`. The repository is part
 * of the key, since a digest learned elsewhere opens nothing.
 */
export class ManifestCache {
  readonly #limitBytes: number;
  readonly #entries = new Map<string, CachedManifest>();
  #usedBytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  get(shard: string, digest: Digest): CachedManifest | undefined {
    const key = keyOf(shard, digest);
    const found = this.#entries.get(key);
    if (found === undefined) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, found);
    return found;
  }

  /** Takes the manifest unless it alone exceeds the limit. The bytes are kept, not copied. */
  put(shard: string, manifest: CachedManifest): void {
    const cost = costOf(manifest);
    if (cost > this.#limitBytes) return;
    this.delete(shard, manifest.digest);
    this.#entries.set(keyOf(shard, manifest.digest), manifest);
    this.#usedBytes += cost;
    for (const [key, oldest] of this.#entries) {
      if (this.#usedBytes <= this.#limitBytes) return;
      this.#entries.delete(key);
      this.#usedBytes -= costOf(oldest);
    }
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
