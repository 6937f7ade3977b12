import type { Digest } from '@sepia/base/digest';

/** A manifest with the digest it was put or asked with. */
export interface StoredManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Buffer;
}

/** Manifests in memory by digest, least recently used first out. */
export class ManifestCache {
  readonly #limitBytes: number;
  readonly #entries = new Map<Digest, StoredManifest>();
  #bytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get(digest: Digest): StoredManifest | undefined {
    const found = this.#entries.get(digest);
    if (found === undefined) return undefined;
    this.#entries.delete(digest);
    this.#entries.set(digest, found);
    return found;
  }

  delete(digest: Digest): void {
    this.#bytes -= this.#entries.get(digest)?.bytes.length ?? 0;
    this.#entries.delete(digest);
  }

  /** Takes it, and returns it. */
  put(manifest: StoredManifest): StoredManifest {
    const before = this.#entries.get(manifest.digest);
    if (before !== undefined) {
      this.#entries.delete(manifest.digest);
      this.#bytes -= before.bytes.length;
    }
    this.#entries.set(manifest.digest, manifest);
    this.#bytes += manifest.bytes.length;
    for (const [digest, { bytes }] of this.#entries) {
      if (this.#bytes <= this.#limitBytes) break;
      this.#entries.delete(digest);
      this.#bytes -= bytes.length;
    }
    return manifest;
  }
}
