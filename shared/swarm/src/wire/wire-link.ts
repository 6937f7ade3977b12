import { pieceLength } from '@sepia/metainfo/tree';
import type { PieceWire } from './wire-owner.ts';

interface PieceFetch {
  readonly slab: Uint8Array;
  readonly lengthBytes: number;
  sentBytes: number;
  arrivedBytes: number;
}

/** What a fetch over a wire tells. The slab goes back with `onPiece` or `onFailed`, or by {@link WireFetcher.cancel}. */
export interface FetchOwner {
  onProgress(index: number, bytes: number): void;
  onPiece(index: number, slab: Uint8Array, lengthBytes: number): void;
  onFailed(index: number, slab: Uint8Array): void;
}

/** Fetches whole pieces over one wire: cuts them in blocks, keeps at most 64 asked, puts them in the piece's slab. */
export class WireFetcher {
  readonly #wire: PieceWire;
  readonly #sizeBytes: number;
  readonly #owner: FetchOwner;
  readonly #fetches = new Map<number, PieceFetch>();
  blockBytes = 16 * 1024;

  constructor(wire: PieceWire, sizeBytes: number, owner: FetchOwner) {
    this.#wire = wire;
    this.#sizeBytes = sizeBytes;
    this.#owner = owner;
  }

  fetch(index: number, slab: Uint8Array): void {
    if (this.#fetches.has(index)) throw new TypeError('piece fetched twice over one wire');
    this.#fetches.set(index, {
      slab,
      lengthBytes: pieceLength(this.#sizeBytes, index),
      sentBytes: 0,
      arrivedBytes: 0,
    });
    this.#ask();
  }

  /** Returns the slab of a piece that is still on its way. */
  cancel(index: number): Uint8Array | undefined {
    const fetch = this.#fetches.get(index);
    if (fetch === undefined) return undefined;
    this.#fetches.delete(index);
    for (let offset = 0; offset < fetch.sentBytes; offset += this.blockBytes)
      this.#wire.sendCancel(index, offset);
    this.#ask();
    return fetch.slab;
  }

  /** The wire is gone: all slabs that were out. */
  *stop(): Generator<Uint8Array> {
    for (const fetch of this.#fetches.values()) yield fetch.slab;
    this.#fetches.clear();
  }

  onBlock(index: number, count: number, done: boolean): void {
    const fetch = this.#fetches.get(index);
    if (fetch === undefined) return;
    fetch.arrivedBytes += count;
    if (!done) return;
    this.#owner.onProgress(index, Math.min(this.blockBytes, fetch.lengthBytes));
    if (fetch.arrivedBytes === fetch.lengthBytes) {
      this.#fetches.delete(index);
      this.#owner.onPiece(index, fetch.slab, fetch.lengthBytes);
    }
    this.#ask();
  }

  onReject(index: number): void {
    const slab = this.cancel(index);
    if (slab !== undefined) this.#owner.onFailed(index, slab);
  }

  #ask(): void {
    for (const [index, fetch] of this.#fetches) {
      while (fetch.sentBytes < fetch.lengthBytes) {
        const { line, requestLimit } = this.#wire;
        if (line.closed || line.pendingRequests >= requestLimit) return;
        const offset = fetch.sentBytes;
        const length = Math.min(this.blockBytes, fetch.lengthBytes - offset);
        fetch.sentBytes += length;
        this.#wire.sendRequest(index, offset, fetch.slab.subarray(offset, offset + length));
      }
    }
  }
}
