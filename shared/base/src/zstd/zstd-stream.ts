import { Duplex, pipeline, Readable } from 'node:stream';
import { createZstdDecompress, zstdDecompressSync } from 'node:zlib';
import { systemCode } from '../errors.ts';
import { FrameScanner } from './frame-scanner.ts';
import { HEAD_BYTES, invalidZstd } from './zstd-frame.ts';

const CHUNK_BYTES = 256 * 1024;
/** A frame that is all there and not longer than this uncompressed is decompressed in one call. */
const AT_ONCE_BYTES = 8 * 1024 * 1024;

/**
 * Decompresses zstd frames one after the other, skippable ones left out (RFC 8878, 3.1). Node's own stream stops after the
 * first frame, without an error, unless a chunk of its input ends there; layers of many frames are common (zstd:chunked).
 * Fails with what zlib says (`Z_…`, `ZSTD_…`), with `LAYER_INVALID`, and with what its source fails with.
 */
export function createZstdFrames(): Duplex {
  return Duplex.from((source: AsyncIterable<Buffer>) => decompressed(new Frames(source)));
}

async function* decompressed(frames: Frames): AsyncGenerator<Buffer> {
  for (let frame = await frames.next(); frame !== undefined; frame = await frames.next()) {
    const bytes = atOnce(frame);
    if (bytes !== undefined) {
      if (bytes.length > 0) yield bytes;
      continue;
    }
    if (frame.isSkippable) {
      for await (const _ of frame.pieces());
      continue;
    }
    const stream = createZstdDecompress({ chunkSize: CHUNK_BYTES });
    // Whatever fails there destroys the stream, and is thrown where it is read.
    pipeline(Readable.from(frame.pieces()), stream, () => undefined);
    yield* stream as AsyncIterable<Buffer>;
  }
}

/** A frame that begins. */
interface BegunFrame {
  readonly isSkippable: boolean;
  /** All of it, where it is there already. */
  readonly whole: Buffer | undefined;
  /** All of it, as it comes. */
  readonly pieces: () => AsyncGenerator<Buffer>;
}

function atOnce({ whole, isSkippable }: BegunFrame): Buffer | undefined {
  if (whole === undefined) return undefined;
  if (isSkippable) return Buffer.alloc(0);
  try {
    return zstdDecompressSync(whole, { maxOutputLength: AT_ONCE_BYTES });
  } catch (error) {
    if (systemCode(error) !== 'ERR_BUFFER_TOO_LARGE') throw error;
    return undefined;
  }
}

/** Cuts what comes into frames. */
class Frames {
  readonly #source: AsyncIterator<Buffer>;
  #held: Buffer = Buffer.alloc(0);

  constructor(source: AsyncIterable<Buffer>) {
    this.#source = source[Symbol.asyncIterator]();
  }

  /** The next frame; the one before must have been read to its end, unless it was there as a whole. */
  async next(): Promise<BegunFrame | undefined> {
    while (this.#held.length < HEAD_BYTES) {
      const { value, done } = await this.#source.next();
      if (done !== true) this.#held = Buffer.concat([this.#held, value]);
      else if (this.#held.length === 0) return undefined;
      else invalidZstd('a frame is cut short');
    }
    const scanner = new FrameScanner();
    const first = this.#held;
    const end = scanner.scan(first);
    const { isSkippable } = scanner;
    if (end === undefined) return { isSkippable, whole: undefined, pieces: () => this.#rest(first, scanner) };
    this.#held = first.subarray(end);
    const whole = first.subarray(0, end);
    const pieces = async function* (): AsyncGenerator<Buffer> {
      yield whole;
    };
    return { isSkippable, whole, pieces };
  }

  async *#rest(first: Buffer, scanner: FrameScanner): AsyncGenerator<Buffer> {
    this.#held = Buffer.alloc(0);
    yield first;
    for (;;) {
      const { value, done } = await this.#source.next();
      if (done === true) invalidZstd('a frame is cut short');
      const end = scanner.scan(value);
      if (end === undefined) yield value;
      else {
        this.#held = value.subarray(end);
        yield value.subarray(0, end);
        return;
      }
    }
  }
}
