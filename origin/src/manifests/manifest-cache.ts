import { alone } from '@sepia/base/chunk';
import type { Digest } from '@sepia/base/digest';
import { forgetsAtRest } from '@sepia/base/memory/at-rest';

/** A manifest with the digest it was put or asked with. */
export interface StoredManifest {
  readonly digest: Digest;
  readonly mediaType: string;
  readonly bytes: Buffer;
}

/** Of an entry beside its bytes: key, map, objects. A round guess. */
const ENTRY_BYTES = 512;

/** Manifests in memory by digest, least recently used first out. */
export class ManifestCache {
  readonly #limitBytes: number;
  readonly #entries = new Map<Digest, StoredManifest>();
  #bytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
    forgetsAtRest(this);
  }

  forgetAll(): void {
    this.#entries.clear();
    this.#bytes = 0;
  }

  get(digest: Digest): StoredManifest | undefined {
    const found = this.#entries.get(digest);
    if (found === undefined) return undefined;
    this.#entries.delete(digest);
    this.#entries.set(digest, found);
    return found;
  }

  delete(digest: Digest): void {
    const found = this.#entries.get(digest);
    if (found === undefined) return;
    this.#entries.delete(digest);
    this.#bytes -= costOf(found);
  }

  /** Takes it, with a copy of bytes that share their memory, and returns it. */
  put(manifest: StoredManifest): StoredManifest {
    const kept = { ...manifest, bytes: alone(manifest.bytes) };
    this.delete(manifest.digest);
    this.#entries.set(manifest.digest, kept);
    this.#bytes += costOf(kept);
    for (const digest of this.#entries.keys()) {
      if (this.#bytes <= this.#limitBytes) break;
      this.delete(digest);
    }
    return kept;
  }
}

function costOf({ bytes }: StoredManifest): number {
  return bytes.length + ENTRY_BYTES;
}
