import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { zstdDecompress, zstdDecompressSync } from 'node:zlib';
import { CodedError, systemCode } from '@sepia/base/errors';
import { invalidZstd, isZstdFault, zstdFrame } from '@sepia/base/zstd/zstd-frame';
import { SPAN_BOUNDS, type SpanBounds } from '../span-bounds.ts';

/** Whole zstd frames, and what comes out of them. */
export interface ZstdSpan {
  /** Byte of the compressed blob where its first frame begins. */
  readonly compressedOffset: number;
  readonly offset: number;
  readonly length: number;
  readonly sha256: Buffer;
}

/** Takes what comes of a zstd blob, as it is read. */
export interface ZstdSink {
  /** Uncompressed bytes in order. */
  output(bytes: Uint8Array): void;
  span(span: ZstdSpan): void;
}

/**
 * Cuts a zstd blob at its frames (RFC 8878, 3.1). A zstd frame can only be read from its start, so a blob of one long
 * frame is not lazy; zstd:chunked and other writers make many. Skippable frames belong to the frame before them.
 */
export class ZstdSpans {
  readonly #sink: ZstdSink;
  readonly #options: SpanBounds;
  /** Input that is not part of a whole frame yet: `#buffer[0…#filled)`. */
  #buffer = Buffer.alloc(256 * 1024);
  #filled = 0;
  /** So many bytes are needed for the next step. */
  #needed = 0;
  #inputBase = 0;
  #output = 0;
  #spanStart = 0;
  #spanOffset = 0;
  #hash = createHash('sha256');

  constructor(sink: ZstdSink, options: SpanBounds = SPAN_BOUNDS) {
    this.#sink = sink;
    this.#options = options;
  }

  /** @throws {CodedError} `LAYER_INVALID`, `LAYER_NOT_LAZY` */
  push(chunk: Uint8Array): void {
    this.#append(chunk);
    let at = 0;
    while (this.#filled - at >= Math.max(this.#needed, 1)) {
      const input = this.#buffer.subarray(at, this.#filled);
      const frame = zstdFrame(input);
      this.#needed = frame.length;
      if (frame.length > this.#options.maxSpanBytes) notLazy(this.#inputBase);
      if (!frame.isWhole) break;
      this.#needed = 0;
      at += frame.length;
      this.#inputBase += frame.length;
      if (!frame.isSkippable) this.#endFrame(input.subarray(0, frame.length));
    }
    this.#buffer.copyWithin(0, at, this.#filled);
    this.#filled -= at;
  }

  /** @throws {CodedError} `LAYER_INVALID` where a frame is cut */
  end(): void {
    if (this.#filled > 0) invalidZstd('a frame is cut short');
    if (this.#output > this.#spanOffset) this.#endSpan();
  }

  #append(chunk: Uint8Array): void {
    const length = this.#filled + chunk.length;
    if (length > this.#buffer.length) {
      const grown = Buffer.alloc(Math.max(length, 2 * this.#buffer.length));
      this.#buffer.copy(grown, 0, 0, this.#filled);
      this.#buffer = grown;
    }
    this.#buffer.set(chunk, this.#filled);
    this.#filled = length;
  }

  #endFrame(frame: Buffer): void {
    const { maxSpanBytes, spanBytes } = this.#options;
    let bytes: Buffer;
    try {
      bytes = zstdDecompressSync(frame, { maxOutputLength: maxSpanBytes });
    } catch (error) {
      if (systemCode(error) === 'ERR_BUFFER_TOO_LARGE') notLazy(this.#inputBase);
      throw asInvalid(error);
    }
    this.#hash.update(bytes);
    this.#output += bytes.length;
    this.#sink.output(bytes);
    if (this.#output - this.#spanOffset >= spanBytes) this.#endSpan();
  }

  #endSpan(): void {
    this.#sink.span({
      compressedOffset: this.#spanStart,
      offset: this.#spanOffset,
      length: this.#output - this.#spanOffset,
      sha256: this.#hash.digest(),
    });
    this.#hash = createHash('sha256');
    this.#spanStart = this.#inputBase;
    this.#spanOffset = this.#output;
  }
}

/**
 * Uncompressed bytes of one span, frame by frame (Node's zlib stops after an empty frame).
 * @throws {CodedError} `LAYER_INVALID`; the caller compares the SHA-256 besides
 */
export async function resumeZstd(compressed: Buffer, length: number): Promise<Buffer> {
  const run = promisify(zstdDecompress) as (bytes: Uint8Array, options: object) => Promise<Buffer>;
  const parts: Buffer[] = [];
  let left = length;
  for (let at = 0; at < compressed.length; ) {
    const rest = compressed.subarray(at);
    const frame = zstdFrame(rest);
    if (!frame.isWhole) invalidZstd('a frame is cut short');
    at += frame.length;
    if (frame.isSkippable) continue;
    try {
      const bytes = await run(rest.subarray(0, frame.length), { maxOutputLength: Math.max(1, left) });
      parts.push(bytes);
      left -= bytes.length;
    } catch (error) {
      throw asInvalid(error);
    }
  }
  if (left !== 0) invalidZstd('a span has another length');
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts, length);
}

function asInvalid(error: unknown): unknown {
  if (!isZstdFault(error)) return error;
  return new CodedError('LAYER_INVALID', {
    message: 'zstd data is not valid',
    detail: { code: systemCode(error) },
    cause: error,
  });
}

function notLazy(offset: number): never {
  throw new CodedError('LAYER_NOT_LAZY', {
    message: 'a zstd frame of this layer is too long to begin inside it; it is pulled whole',
    detail: { reason: 'zstd-frame-too-long', offset },
  });
}
