import { setImmediate as afterAnswers } from 'node:timers/promises';
import type { Digest } from '@sepia/base/digest';
import { takesNoWrites } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { MemoryBlob } from '@sepia/http/bodies/memory-blob';
import type { BlobStore } from '@sepia/store/blob-store';
import type { OriginClient } from '../cluster/origin-client.ts';
import { attrsOf } from './cached-blobs.ts';
import type { DiskHold } from './core/disk-hold.ts';

interface SmallBlobsDeps {
  readonly store: Pick<BlobStore, 'putBytes'>;
  readonly origins: Pick<OriginClient, 'small'>;
  readonly disk: DiskHold;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly onBytes: (source: 'origin', bytes: number) => void;
  /** Called when a blob is in the cache, or the disk did not take it. */
  readonly onSettled: (digest: Digest) => void;
}

/** One whose file is being written. */
interface Fresh {
  readonly blob: MemoryBlob;
  readonly settled: Promise<void>;
}

/** Blobs that come whole in one answer. Nobody waits for their files: until these are written, who asks is served from memory. */
export class SmallBlobs {
  readonly #deps: SmallBlobsDeps;
  readonly #fresh = new Map<Digest, Fresh>();

  constructor(deps: SmallBlobsDeps) {
    this.#deps = deps;
  }

  /** How many are in memory for want of their files. */
  get size(): number {
    return this.#fresh.size;
  }

  /** One that came, and whose file is being written. */
  of(digest: Digest): MemoryBlob | undefined {
    return this.#fresh.get(digest)?.blob;
  }

  /** Brings one that is neither in the cache nor {@link of} here. @throws as `OriginClient.small` */
  async fetch(
    name: BlobName,
    targets: Parameters<OriginClient['small']>[1],
    signal: AbortSignal,
  ): Promise<MemoryBlob> {
    const { digest } = name;
    const bytes = await this.#deps.origins.small(name, targets, signal);
    this.#deps.onBytes('origin', bytes.length);
    const blob = new MemoryBlob(digest, bytes);
    const settled = this.#keep(name, bytes).then(() => {
      if (this.#fresh.get(digest) === fresh) this.#fresh.delete(digest);
      this.#deps.onSettled(digest);
    });
    const fresh = { blob, settled };
    this.#fresh.set(digest, fresh);
    return blob;
  }

  /** Resolves when a blob that came is in the cache, or the disk did not take it. */
  async settled(digest: Digest): Promise<void> {
    await this.#fresh.get(digest)?.settled;
  }

  /** As {@link settled}, of all that are here now. */
  async idle(): Promise<void> {
    await Promise.all([...this.#fresh.values()].map(async ({ settled }) => await settled));
  }

  async #keep(name: BlobName, bytes: Uint8Array): Promise<void> {
    const { store, disk, log, nowMs } = this.#deps;
    const { digest } = name;
    try {
      // To hash it for the disk would hold up the answer for which it came.
      await afterAnswers();
      await store.putBytes(digest, bytes, attrsOf(name));
      disk.took();
    } catch (error) {
      if (takesNoWrites(error)) disk.refused(error, nowMs());
      logFailure(log, error, 'not cached; served all the same', { digest });
    }
  }
}
