/** Buffers that lie ready for the next block, at most; more are left to the collector. */
const KEPT = 64;

/** Buffers for blocks between the disk and the socket, used over and over. Their number is bounded by the upload budget. */
export class BlockBuffers {
  readonly #blockBytes: number;
  readonly #free: Uint8Array[] = [];

  constructor(blockBytes: number) {
    this.#blockBytes = blockBytes;
  }

  /** A buffer for `length` bytes, dirty. Give back the whole of it. */
  take(length: number): Uint8Array {
    if (length > this.#blockBytes) throw new TypeError(`block of ${length} bytes`);
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#blockBytes);
  }

  give(buffer: Uint8Array): void {
    if (this.#free.length < KEPT) this.#free.push(buffer);
  }
}
