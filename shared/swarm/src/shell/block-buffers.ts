import { giveBack } from '@sepia/base/chunk';

/** Buffers that lie ready for the next read, at most; the memory of more is freed. */
const KEPT = 16;

/** Buffers between the disk and the socket, used over and over. How many are out is bounded by the upload budget. */
export class BlockBuffers {
  readonly sizeBytes: number;
  readonly #free: Uint8Array[] = [];

  /** `sizeBytes`: of each buffer. */
  constructor(sizeBytes: number) {
    this.sizeBytes = sizeBytes;
  }

  /** A buffer of `sizeBytes`, with what was left in it. */
  take(): Uint8Array {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.sizeBytes);
  }

  give(buffer: Uint8Array): void {
    if (this.#free.length < KEPT) this.#free.push(buffer);
    else giveBack(buffer);
  }
}
