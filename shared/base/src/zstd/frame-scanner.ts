import { blockOf, HEAD_BYTES, headerRest, invalidZstd, isSkippableMagic, ZSTD_MAGIC } from './zstd-frame.ts';

const SKIPPABLE_HEAD_BYTES = 8;
const BLOCK_HEAD_BYTES = 3;
const CHECKSUM_BYTES = 4;

/**
 * Finds where a zstd frame ends (RFC 8878, 3.1) that comes in pieces, by its headers: nothing is decompressed, and nothing
 * but a header is kept.
 *
 * ```
 * magic ─ skippable ─▶ (skip) ─▶ end        magic ─ zstd ─▶ (skip) ─▶ block ─▶ (skip) ─▶ block … last ─▶ end
 * ```
 */
export class FrameScanner {
  readonly #head = Buffer.alloc(SKIPPABLE_HEAD_BYTES);
  #filled = 0;
  #needed = HEAD_BYTES;
  /** Bytes to leave out before the next header. */
  #skip = 0;
  #state: 'magic' | 'block' | 'last' = 'magic';
  #hasChecksum = false;
  /** False until its first bytes are there. */
  isSkippable = false;

  /**
   * Takes the next bytes.
   * @returns how many of them belong to the frame if it ends with or before them, else undefined
   * @throws {CodedError} `LAYER_INVALID`
   */
  scan(bytes: Uint8Array): number | undefined {
    for (let at = 0; ; ) {
      const skipped = Math.min(this.#skip, bytes.length - at);
      this.#skip -= skipped;
      at += skipped;
      if (this.#skip > 0) return undefined;
      if (this.#state === 'last') return at;
      while (this.#filled < this.#needed && at < bytes.length) {
        this.#head[this.#filled] = bytes[at]!;
        this.#filled += 1;
        at += 1;
      }
      if (this.#filled < this.#needed) return undefined;
      if (this.#state === 'magic') this.#magic();
      else this.#block();
    }
  }

  #begin(state: 'magic' | 'block' | 'last', needed: number): void {
    this.#state = state;
    this.#needed = needed;
    this.#filled = 0;
  }

  #magic(): void {
    const magic = this.#head.readUInt32LE(0);
    if (isSkippableMagic(magic)) {
      this.isSkippable = true;
      this.#needed = SKIPPABLE_HEAD_BYTES;
      if (this.#filled < SKIPPABLE_HEAD_BYTES) return;
      this.#skip = this.#head.readUInt32LE(4);
      this.#begin('last', 0);
      return;
    }
    if (magic !== ZSTD_MAGIC) invalidZstd('no frame begins here');
    const descriptor = this.#head[4]!;
    this.#hasChecksum = (descriptor & 4) !== 0;
    this.#skip = headerRest(descriptor);
    this.#begin('block', BLOCK_HEAD_BYTES);
  }

  #block(): void {
    const { sizeBytes, isLast } = blockOf(this.#head);
    this.#skip = sizeBytes + (isLast && this.#hasChecksum ? CHECKSUM_BYTES : 0);
    this.#begin(isLast ? 'last' : 'block', BLOCK_HEAD_BYTES);
  }
}
