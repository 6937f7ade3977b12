import { join } from 'node:path';
import { type Digest, digestAlgorithm, digestHex } from '@sepia/base/digest';
import type { BlobChanges, BlobFiles } from './blob-files.ts';
import { digestOfName } from './layout.ts';

/** A blob as a walk over the files finds it. */
export interface ListedBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Coarse time of the last access; 0, as the size, where the disk does not say and the blob can be fetched again. */
  readonly accessedMs: number;
}

/** Walks over `DIR/v1/blobs` in order of the digests, folder by folder, from behind `after`; holds one folder of names at a time. */
export async function* listBlobs(
  blobs: BlobFiles,
  onFolder?: (folder: string) => void,
  after = '',
): AsyncGenerator<ListedBlob, void, void> {
  for (const { algorithm, shard } of await shards(blobs, 'blobs')) {
    if (`${algorithm}:${shard}` < after.slice(0, algorithm.length + 3)) continue;
    const folder = join(blobs.layout.root, 'blobs', algorithm, shard);
    onFolder?.(folder);
    for (const name of (await blobs.files.list(folder)).sort()) {
      const digest = digestOfName(algorithm, name);
      if (digest === undefined || digest <= after) continue;
      const facts = await blobs.facts(digest);
      if (facts === 'unread') yield { digest, sizeBytes: 0, accessedMs: 0 };
      else if (facts?.kind === 'file')
        yield { digest, sizeBytes: facts.sizeBytes, accessedMs: facts.modifiedMs };
    }
  }
}

/** Those of `digests` whose folder has no file of their name. Each folder is read once if they come in order; no file is looked at. */
export async function* unlistedBlobs(
  blobs: BlobFiles,
  digests: AsyncIterable<Digest>,
): AsyncGenerator<Digest, void, void> {
  let folder: string | undefined;
  let names = new Set<string>();
  for await (const digest of digests) {
    const own = blobs.layout.blobShard(digest);
    if (own !== folder) {
      folder = own;
      names = new Set(await blobs.files.list(own));
    }
    if (!names.has(digestHex(digest))) yield digest;
  }
}

/** Walks over the digests of what is kept beside blobs, sidecars or leaf hashes, folder by folder; `stopped` ends it early. */
export async function* listBeside(
  blobs: BlobFiles,
  kind: 'meta' | 'leaves',
  stopped: () => boolean,
): AsyncGenerator<Digest, void, void> {
  for (const { algorithm, shard } of await shards(blobs, kind)) {
    for (const name of await blobs.files.list(join(blobs.layout.root, kind, algorithm, shard))) {
      const digest = digestOfName(algorithm, name);
      if (stopped()) return;
      if (digest !== undefined) yield digest;
    }
  }
}

/**
 * Bytes of all blobs: counted once behind the start, folder by folder, and kept up by every change after a folder
 * was counted. What comes or goes in the folder being counted is told apart by digest.
 */
export class UsageCounter implements BlobChanges {
  #bytes = 0;
  #counted = new Set<string>();
  #current: string | undefined;
  #touched = new Map<Digest, number>();
  /** Every folder was counted. */
  #complete = false;

  get bytes(): number {
    return this.#bytes;
  }

  added(digest: Digest, sizeBytes: number, replacedBytes: number): void {
    if (this.#isCounted(digest)) this.#bytes += sizeBytes - replacedBytes;
    else this.#touched.set(digest, sizeBytes);
  }

  removed(digest: Digest, sizeBytes: number): void {
    if (this.#isCounted(digest)) this.#bytes -= sizeBytes;
    else this.#touched.set(digest, 0);
  }

  /** Counts everything; `stopped` ends it early. One that failed begins anew. */
  async count(blobs: BlobFiles, stopped: () => boolean): Promise<void> {
    this.#bytes = 0;
    this.#counted = new Set();
    this.#current = undefined;
    let sum = 0;
    const sizes = new Map<Digest, number>();
    const end = (): void => {
      for (const [digest, sizeBytes] of sizes) if (!this.#touched.has(digest)) sum += sizeBytes;
      sizes.clear();
      for (const [digest, sizeBytes] of this.#touched) {
        if (folderOf(digest) !== this.#current) continue;
        sum += sizeBytes;
        this.#touched.delete(digest);
      }
      if (this.#current !== undefined) this.#counted.add(this.#current);
      this.#bytes += sum;
      sum = 0;
    };
    const begin = (folder: string): void => {
      end();
      this.#current = folder.slice(blobs.layout.root.length + 1);
    };
    for await (const { digest, sizeBytes } of listBlobs(blobs, begin)) {
      if (stopped()) return;
      sizes.set(digest, sizeBytes);
    }
    end();
    for (const sizeBytes of this.#touched.values()) this.#bytes += sizeBytes;
    this.#touched = new Map();
    this.#counted = new Set();
    this.#complete = true;
  }

  #isCounted(digest: Digest): boolean {
    return this.#complete || this.#counted.has(folderOf(digest));
  }
}

function folderOf(digest: Digest): string {
  return join('blobs', digestAlgorithm(digest), digestHex(digest).slice(0, 2));
}

async function shards(
  blobs: BlobFiles,
  kind: 'blobs' | 'meta' | 'leaves',
): Promise<{ algorithm: string; shard: string }[]> {
  const found: { algorithm: string; shard: string }[] = [];
  for (const algorithm of ['sha256', 'sha512']) {
    const names = await blobs.files.list(join(blobs.layout.root, kind, algorithm));
    for (const shard of names.sort()) if (/^[0-9a-f]{2}$/.test(shard)) found.push({ algorithm, shard });
  }
  return found;
}
