import { type Digest, Digester, digestAlgorithm } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import {
  foldLeaves,
  isLeaf,
  LEAF_BYTES,
  PIECE_BYTES,
  pieceCount,
  pieceLeaves,
  pieceLength,
} from '@sepia/metainfo/tree';
import { READ_AGAIN_MS } from '../deadlines/bodies.ts';
import {
  BUFFER_BYTES,
  type BufferSize,
  leafIndex,
  leavesOf,
  type Window,
  windowAt,
} from './core/body-windows.ts';
import { Deadline } from './deadline.ts';
import { readBuffers } from './read-buffers.ts';
import { readTurns } from './read-turns.ts';
import type { ReadableBlob } from './readable-blob.ts';

/** Wrong reads of one window after which the body fails. */
const MAX_WRONG = 8;

/** One range of a body. `withhold`: its last piece of the blob waits until the whole digest was verified. */
export interface CheckedRange {
  readonly start: number;
  readonly end: number;
  readonly withhold: boolean;
}

/** Checked bytes, in a buffer that is the caller's until {@link CheckedChunk.free}. */
export interface CheckedChunk {
  readonly bytes: Uint8Array;
  /** Idempotent. */
  free(): void;
}

/**
 * The one way by which bytes of a blob leave a process: windows of at most a few leaves, each leaf checked at each
 * read (or in the memory that is sent, when it came: `ReadableBlob.lend`) against the leaf hashes of its piece. What does not match is fetched again (`ReadableBlob.mend`) or never
 * handed out. The last piece of a body that must be whole comes after the whole digest was verified.
 */
export class CheckedBody {
  readonly #blob: ReadableBlob;
  readonly #signal: AbortSignal;
  /** Leaf hashes of the piece that is being read. */
  #leaves: { readonly piece: number; readonly hashes: Buffer } | undefined;
  /** A piece whose copy could not be mended in its place: it is served from memory. */
  #mended: { readonly piece: number; readonly bytes: Uint8Array; readonly leaves: Buffer } | undefined;
  /** Of a body from byte 0 whose blob is on its way and proven by others: hashed as it leaves. */
  #whole: Digester | undefined;

  /** `fromStart`: the body is the whole blob. */
  constructor(blob: ReadableBlob, fromStart: boolean, signal: AbortSignal) {
    this.#blob = blob;
    this.#signal = signal;
    if (fromStart && !blob.provesWhole && !blob.isFinal)
      this.#whole = new Digester(digestAlgorithm(blob.digest));
  }

  /** True if the next window must wait for the whole digest. */
  isWithheld(range: CheckedRange, window: Window): boolean {
    const { isFinal, sizeBytes } = this.#blob;
    const isLast = window.piece === pieceCount(sizeBytes) - 1;
    return range.withhold && isLast && (!isFinal || this.#whole !== undefined);
  }

  /** True if windows may be taken before those in front of them have come. */
  get isInAnyOrder(): boolean {
    return this.#blob.isWholeHere === true && this.#whole === undefined;
  }

  /**
   * The checked bytes of a range from `at` on, as many as a buffer holds, or with `mayBorrow` the rest of a piece that is
   * lent; while a piece is waited for, no buffer is held. `sizeOf` is asked when the buffer is taken: what others took
   * meanwhile counts.
   * @throws `UPSTREAM_LIES` when the whole digest is wrong, `DISK_CORRUPT`, what the blob rejects with
   */
  async take(
    range: CheckedRange,
    at: number,
    sizeOf: () => BufferSize,
    mayBorrow = false,
  ): Promise<CheckedChunk> {
    const first = windowAt(range, at, BUFFER_BYTES.small);
    if (this.isWithheld(range, first)) await this.#untilWhole(first.piece);
    await this.#untilThere(first.piece);
    const lent = mayBorrow ? this.#lent(windowAt(range, at, PIECE_BYTES)) : undefined;
    if (lent !== undefined) return lent;
    const read = async (): Promise<CheckedChunk> => {
      const size = sizeOf();
      const buffer = readBuffers.take(size);
      const window = windowAt(range, at, BUFFER_BYTES[size]);
      try {
        const bytes = await this.#read(window, buffer);
        this.#whole?.update(bytes);
        return { bytes, free: once(() => readBuffers.give(size, buffer)) };
      } catch (error) {
        readBuffers.give(size, buffer);
        throw error;
      }
    };
    return await readTurns.run(this.#blob.digest, read, this.#signal);
  }

  /** A window of a piece that was verified in the memory that it lies in: neither read nor hashed once more. */
  #lent({ piece, start, end }: Window): CheckedChunk | undefined {
    if (this.#mended?.piece === piece) return undefined;
    const lent = this.#blob.lend?.(piece);
    if (lent === undefined) return undefined;
    const bytes = lent.bytes.subarray(start - piece * PIECE_BYTES, end - piece * PIECE_BYTES);
    this.#whole?.update(bytes);
    return { bytes, free: lent.free };
  }

  async #untilThere(piece: number): Promise<void> {
    try {
      await this.#leavesOf(piece);
    } catch (error) {
      // Mended when it is read.
      if (!isCoded(error, 'DISK_CORRUPT')) throw error;
    }
  }

  /** Waits for the whole digest; the last piece is hashed here before any byte of it leaves. */
  async #untilWhole(lastPiece: number): Promise<void> {
    const blob = this.#blob;
    await blob.whenFinal(this.#signal);
    const whole = this.#whole;
    this.#whole = undefined;
    if (whole === undefined) return;
    const range = { start: lastPiece * PIECE_BYTES, end: blob.sizeBytes - 1, withhold: false };
    for (let at = range.start; at <= range.end; ) {
      const chunk = await this.take(range, at, usual);
      whole.update(chunk.bytes);
      at += chunk.bytes.length;
      chunk.free();
    }
    if (whole.digest() === blob.digest) return;
    blob.onWrongWhole?.();
    throw new CodedError('UPSTREAM_LIES', { detail: { digest: blob.digest } });
  }

  /** Reads the leaves of a window and checks them; returns the window's own bytes. */
  async #read(window: Window, buffer: Buffer): Promise<Uint8Array> {
    const range = leavesOf(window, this.#blob.sizeBytes);
    const target = buffer.subarray(0, range.end - range.start + 1);
    for (let wrong = 0; !(await this.#fill(window.piece, range.start, target)); wrong++) {
      if (wrong < MAX_WRONG) continue;
      const detail = { digest: this.#blob.digest, piece: window.piece };
      throw new CodedError('DISK_CORRUPT', { message: 'no source has a right copy of a piece', detail });
    }
    return target.subarray(window.start - range.start, window.end - range.start);
  }

  /** False: what was read did not match and is to be read again. */
  async #fill(piece: number, start: number, target: Buffer): Promise<boolean> {
    const blob = this.#blob;
    // NOTE: windows of the next piece may be read beside this one, and have copies of their own.
    let mended = this.#mended?.piece === piece ? this.#mended : undefined;
    if (mended === undefined) {
      this.#mended = undefined;
      try {
        const hashes = await this.#leavesOf(piece);
        await blob.read(start, target, this.#signal);
        if (areLeaves(hashes, leafIndex(start), target)) return true;
      } catch (error) {
        // A damaged piece is one that does not match; all else is an answer.
        if (!isCoded(error, 'DISK_CORRUPT')) throw error;
      }
      const bytes = await blob.mend(piece, this.#signal);
      const leaves = bytes && leavesIfRight(blob, piece, bytes);
      if (bytes === undefined || leaves === undefined) return false;
      mended = { piece, bytes, leaves: view(leaves) };
      this.#mended = mended;
    }
    const from = start - piece * PIECE_BYTES;
    target.set(mended.bytes.subarray(from, from + target.length));
    return areLeaves(mended.leaves, leafIndex(start), target);
  }

  async #leavesOf(piece: number): Promise<Buffer> {
    if (this.#leaves?.piece === piece) return this.#leaves.hashes;
    const hashes = view(await this.#blob.leaves(piece, this.#signal));
    this.#leaves = { piece, hashes };
    return hashes;
  }
}

/**
 * Checked bytes of a range, in fresh chunks of at most 64 KiB; each may take `stallMs`.
 * @throws as {@link CheckedBody.take}
 */
export async function* checkedChunks(
  blob: ReadableBlob,
  range: { readonly start: number; readonly end: number },
  stallMs: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, void> {
  const deadline = new Deadline(signal);
  const body = new CheckedBody(blob, false, deadline.signal);
  const reader = blob.openReader(Math.floor(range.start / PIECE_BYTES), range.end);
  try {
    for (let at = range.start; at <= range.end; ) {
      reader.move(Math.floor(at / PIECE_BYTES));
      const taking = body.take({ ...range, withhold: false }, at, usual);
      const chunk = await deadline.run(stallMs, taking, (late) => late.free());
      const bytes = Uint8Array.prototype.slice.call(chunk.bytes);
      chunk.free();
      at += bytes.length;
      yield bytes;
    }
  } finally {
    reader.close();
    deadline.end();
  }
}

/** One whole piece, checked, in fresh memory. @throws as {@link CheckedBody.take} */
export async function checkedPiece(
  blob: ReadableBlob,
  piece: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const start = piece * PIECE_BYTES;
  const bytes = Buffer.allocUnsafeSlow(pieceLength(blob.sizeBytes, piece));
  const body = new CheckedBody(blob, false, signal);
  const range = { start, end: start + bytes.length - 1, withhold: false };
  for (let at = 0; at < bytes.length; ) {
    const chunk = await body.take(range, start + at, usual);
    bytes.set(chunk.bytes, at);
    at += chunk.bytes.length;
    chunk.free();
  }
  return bytes;
}

/** Digest of a whole blob, read and checked once more. @throws as {@link checkedChunks} */
export async function wholeDigest(blob: ReadableBlob, signal: AbortSignal): Promise<Digest> {
  const digester = new Digester(digestAlgorithm(blob.digest));
  const range = { start: 0, end: blob.sizeBytes - 1 };
  for await (const chunk of checkedChunks(blob, range, READ_AGAIN_MS, signal)) digester.update(chunk);
  return digester.digest();
}

/** Leaf hashes of a piece; where they must be made of a piece that is damaged, it is mended before. */
export async function rightLeaves(
  blob: ReadableBlob,
  piece: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  try {
    return await blob.leaves(piece, signal);
  } catch (error) {
    if (!isCoded(error, 'DISK_CORRUPT')) throw error;
    const mended = await blob.mend(piece, signal);
    return (mended && leavesIfRight(blob, piece, mended)) ?? (await blob.leaves(piece, signal));
  }
}

/** Leaf hashes of what is said to be a piece; undefined if it is not. */
function leavesIfRight(blob: ReadableBlob, piece: number, bytes: Uint8Array): Uint8Array | undefined {
  const hash = blob.pieceHash?.(piece);
  if (hash === undefined || bytes.length !== pieceLength(blob.sizeBytes, piece)) return undefined;
  const leaves = pieceLeaves(bytes);
  return Buffer.compare(foldLeaves(leaves), hash) === 0 ? leaves : undefined;
}

function areLeaves(hashes: Buffer, first: number, bytes: Buffer): boolean {
  for (let at = 0, leaf = first; at < bytes.length; at += LEAF_BYTES, leaf += 1)
    if (!isLeaf(hashes, leaf, bytes.subarray(at, at + LEAF_BYTES))) return false;
  return true;
}

function usual(): BufferSize {
  return 'usual';
}

function view(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function once(run: () => void): () => void {
  let done = false;
  return () => {
    if (!done) run();
    done = true;
  };
}
