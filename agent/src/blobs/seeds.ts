import type { Digest } from '@sepia/base/digest';
import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { SMALL_BLOB_BYTES } from '@sepia/cluster/api/join';
import type { BlobStore } from '@sepia/store/blob-store';
import type { SwarmEngine } from '@sepia/swarm/shell/engine';
import type { Swarm } from '@sepia/swarm/swarm';
import type { Download } from '../downloads/download.ts';
import { SwarmPieces } from '../downloads/swarm-pieces.ts';

/** What trackers are told that this node seeds. */
interface Advertised {
  /** A blob was completed or served; returns the digest that no longer fits, if any. */
  touch(digest: string, trackerIds: readonly string[]): string | undefined;
  drop(digest: string): void;
}

interface SeedsDeps {
  readonly store: BlobStore;
  readonly engine: SwarmEngine;
  readonly book: Advertised;
  readonly trackerIds: (digest: Digest) => string[];
  readonly log: Logger;
}

/** The whole blobs that this node seeds: the most recently served ones, until the cache drops them. */
export class Seeds {
  readonly #deps: SeedsDeps;
  readonly #seeds = new Map<Digest, { swarm: Swarm; pieces: SwarmPieces }>();
  readonly #opening = new Set<Digest>();
  #onComplaint: (digest: Digest, index: number) => void = () => undefined;

  constructor(deps: SeedsDeps) {
    this.#deps = deps;
  }

  get count(): number {
    return this.#seeds.size;
  }

  /** Calls `listener` when a member got a piece from here that was wrong. */
  onComplaint(listener: (digest: Digest, index: number) => void): void {
    this.#onComplaint = listener;
  }

  /** Takes over the swarm of a download that was stored. */
  adopt(download: Download, pieces: SwarmPieces): void {
    pieces.stored();
    this.#keep(download.digest, download.swarm, pieces);
  }

  /** A stored blob was served: seed it (again). */
  touch(digest: Digest): void {
    const known = this.#seeds.get(digest);
    if (known !== undefined) this.#keep(digest, known.swarm, known.pieces);
    else
      this.#open(digest).catch((error: unknown) =>
        logFailure(this.#deps.log, error, 'blob is not seeded', { digest }),
      );
  }

  /** Stops seeding; the trackers hear of it with the next heartbeat. */
  drop(digest: Digest): void {
    // One that is being opened may be open from before it went.
    this.#opening.delete(digest);
    this.#deps.book.drop(digest);
    const known = this.#seeds.get(digest);
    if (known === undefined) return;
    this.#seeds.delete(digest);
    known.swarm.leave();
    known.pieces.close();
  }

  stop(): void {
    for (const digest of [...this.#seeds.keys()]) this.drop(digest);
  }

  async #open(digest: Digest): Promise<void> {
    if (this.#opening.has(digest)) return;
    this.#opening.add(digest);
    try {
      await using handle = await this.#deps.store.open(digest);
      if (
        handle === undefined ||
        !this.#opening.has(digest) ||
        handle.sizeBytes <= SMALL_BLOB_BYTES ||
        this.#seeds.has(digest) ||
        this.#deps.engine.get(digest) !== undefined
      )
        return;
      const metainfo = handle.metainfo();
      const pieces = SwarmPieces.ofBlob(this.#deps.store, metainfo, (index) =>
        this.#onComplaint(digest, index),
      );
      this.#keep(digest, this.#deps.engine.join({ digest, metainfo, pieces, leech: false }), pieces);
    } finally {
      this.#opening.delete(digest);
    }
  }

  #keep(digest: Digest, swarm: Swarm, pieces: SwarmPieces): void {
    this.#seeds.delete(digest);
    this.#seeds.set(digest, { swarm, pieces });
    const oldest = this.#deps.book.touch(digest, this.#deps.trackerIds(digest));
    if (oldest !== undefined) this.drop(oldest as Digest);
  }
}
