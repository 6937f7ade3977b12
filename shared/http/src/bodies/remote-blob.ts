import { LinkedAbort } from '@sepia/base/async/linked-abort';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded, isUpstreamFailure } from '@sepia/base/errors';
import { noteBug, throwIfBug } from '@sepia/base/failure';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import {
  foldLeaves,
  HASH_BYTES,
  LEAF_BYTES,
  leafCount,
  PIECE_BYTES,
  pieceLeaves,
  pieceLength,
} from '@sepia/metainfo/tree';
import { POLL_MS, UNREAD_MS } from '../deadlines/bodies.ts';
import { type Ask, askHolders } from './ask-holders.ts';
import {
  FIRST_READ,
  leafStart,
  mayStayOpen,
  type ReadPace,
  readPaceAfter,
  SLOW_READER,
} from './core/body-windows.ts';
import { type BlobHolders, SourceOrder } from './core/source-order.ts';
import { MetainfoFollower, type MetainfoNews } from './metainfo-follower.ts';
import { comingRange, openRangeCount, type RangeBody, RangeStream } from './range-stream.ts';
import type { BlobReader, ReadableBlob } from './readable-blob.ts';

/** Pieces whose leaf hashes are asked for at once: 16 KiB. */
const LEAVES_AHEAD = 8;

/** How the members that hold a blob are asked. Errors are coded; answers are not believed. */
export interface BlobSource {
  /** Who has it now. @throws when nobody answers */
  find(signal: AbortSignal): Promise<BlobHolders>;
  /** Metainfo, or undefined when there is nothing newer than `known` within `waitMs`. */
  metainfo(
    id: string,
    known: MetainfoNews | undefined,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<MetainfoNews | undefined>;
  /**
   * Leaf hashes of `count` pieces from `first` on, one behind the other; fewer where the member does not have them yet,
   * but those of the first, which is waited for. @throws `ROUTE_UNKNOWN` where the member is too old to tell
   */
  leaves(id: string, first: number, count: number, signal: AbortSignal): Promise<Uint8Array>;
  /** Bytes `start` to `end`, inclusive. */
  range(id: string, start: number, end: number, signal: AbortSignal): Promise<RangeBody>;
  /** From now on the whole blob is wanted, not only what is read. */
  wantAll(signal: AbortSignal): Promise<void>;
  /** True for an answer that no other member would better, now or in a moment. */
  isDefinite(error: unknown): boolean;
  /** The member sent something of a piece that does not match its hash. */
  wrong(id: string, piece: number): void;
}

interface RemoteBlobOptions {
  /** When nothing came of it for this long before its first bytes were read, the blob fails, in ms. */
  readonly progressMs: number;
  /** The same behind its first bytes, in ms: a client that has some is better served late than cut. */
  readonly stallMs: number;
  /** Called with each number of bytes that arrived. */
  readonly onBytes?: (bytes: number) => void;
  /** Called when a member takes over from another in the middle of the blob. */
  readonly onResume?: (id: string, piece: number) => void;
  readonly onWrongWhole?: () => void;
  /** The cluster vouches for the whole digest now. */
  readonly onFinal?: (metainfo: Metainfo) => void;
  /** The origin dropped this attempt and began another; pieces of it may have been read. */
  readonly onDropped?: (attempt: Metainfo) => void;
}

/**
 * A blob at other members: the one resumable read. Bytes come from one range at a time; whoever stalls, breaks or lies
 * is replaced by another member at the very byte that is wanted, and everything is checked against the metainfo of a
 * member that vouches for it. Holds no bytes itself. Close it.
 */
export class RemoteBlob implements ReadableBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly provesWhole = false;
  readonly #source: BlobSource;
  readonly #options: RemoteBlobOptions;
  readonly #follower: MetainfoFollower;
  readonly #order: SourceOrder;
  readonly #closed = new AbortController();
  /** Leaf hashes that were fetched with those of a piece before them. */
  readonly #leaves = new Map<number, Uint8Array>();
  /** A piece in memory, from members that cannot tell leaf hashes. */
  #piece: { readonly index: number; readonly bytes: Uint8Array } | undefined;
  #stream: RangeStream | undefined;
  /** Bytes of it were read: its client may have some. */
  #hasBegun = false;
  /** When anything of it came last. */
  #newsMs = performance.now();
  /** Since when somebody waits for the end; and when a member was asked about it last that answered. */
  #endWaitedMs = Number.POSITIVE_INFINITY;
  #heardMs = 0;
  #lastByte: number;
  /** Where a reader begins of whom nothing was asked yet. */
  #firstByte: number | undefined;
  #readMs = 0;
  #reading = 0;
  #pace: ReadPace = FIRST_READ;
  #unread: NodeJS.Timeout | undefined;

  /** A blob of `holders`, whose metainfo one of them told. */
  constructor(
    source: BlobSource,
    options: RemoteBlobOptions,
    begun: { holders: BlobHolders; metainfo: Metainfo },
  ) {
    this.digest = begun.metainfo.digest;
    this.sizeBytes = begun.metainfo.sizeBytes;
    this.#source = source;
    this.#options = options;
    this.#order = new SourceOrder(begun.holders);
    this.#lastByte = this.sizeBytes - 1;
    const isDefinite = (error: unknown): boolean => this.#isDefinite(error) || this.#isForsaken();
    this.#follower = new MetainfoFollower(
      { poll: this.#poll, isDefinite, ...(options.onDropped === undefined ? {} : options) },
      begun.metainfo,
    );
  }

  get isFinal(): boolean {
    return this.#follower.isFinal;
  }

  /** Idempotent. */
  close(): void {
    clearTimeout(this.#unread);
    this.#closed.abort(new CodedError('TIMEOUT', { message: 'reader is gone' }));
    this.#follower.stop();
    this.#stream?.close();
    this.#stream = undefined;
    this.#piece = undefined;
  }

  has(piece: number): boolean {
    return this.#follower.metainfo.knows(piece);
  }

  async leaves(piece: number, signal: AbortSignal): Promise<Uint8Array> {
    for (const known of this.#leaves.keys()) if (known < piece) this.#leaves.delete(known);
    const kept = this.#leaves.get(piece);
    if (kept !== undefined) return kept;
    return await this.#ask(piece, signal, async (id, abort) => await this.#leavesFrom(id, piece, abort));
  }

  async read(offset: number, into: Uint8Array, signal: AbortSignal): Promise<void> {
    const piece = Math.floor(offset / PIECE_BYTES);
    if (this.#piece?.index === piece) {
      const at = offset - piece * PIECE_BYTES;
      into.set(this.#piece.bytes.subarray(at, at + into.length));
      return;
    }
    if (this.#reading === 0 && this.#readMs > 0)
      this.#pace = readPaceAfter(this.#pace, performance.now() - this.#readMs);
    this.#reading += 1;
    const opened: RangeStream[] = [];
    let won: RangeStream | undefined;
    try {
      let isFirst = true;
      const done = await this.#ask(piece, signal, async (id, abort, onBytes) => {
        // Two members never fill the same memory.
        const target = isFirst ? into : Buffer.allocUnsafeSlow(into.length);
        isFirst = false;
        const stream = await this.#streamAt(id, offset, into.length, abort);
        opened.push(stream);
        await stream.fill(target, abort, (bytes) => {
          onBytes();
          this.#newsMs = performance.now();
          this.#options.onBytes?.(bytes);
        });
        return { stream, target };
      });
      if (done.target !== into) into.set(done.target);
      won = done.stream;
      this.#hasBegun = true;
    } finally {
      for (const stream of [...opened, this.#stream]) if (stream !== won) stream?.close();
      if (won?.isRead === true) won.close();
      // One that is over still holds its answer: some 40 KiB, for as long as the client does not read on.
      this.#stream = won?.at === undefined ? undefined : won;
      this.#reading -= 1;
      this.#closeWhenUnread();
    }
  }

  /** Whoever sent the last bytes lied. */
  mend(piece: number): Promise<undefined> {
    const { last } = this.#order;
    if (last !== undefined) this.#lied(last, piece);
    this.#stream?.close();
    this.#stream = undefined;
    this.#piece = undefined;
    return Promise.resolve(undefined);
  }

  async whenFinal(signal: AbortSignal): Promise<void> {
    const either = new LinkedAbort(signal, this.#closed.signal);
    try {
      if (!this.isFinal) await this.#source.wantAll(either.signal);
      this.#endWaitedMs = Math.min(this.#endWaitedMs, performance.now());
      await this.#follower.untilFinal(either.signal);
      this.#options.onFinal?.(this.#follower.metainfo);
    } finally {
      this.#endWaitedMs = Number.POSITIVE_INFINITY;
      either.unlink();
    }
  }

  onWrongWhole(): void {
    this.#options.onWrongWhole?.();
  }

  openReader(_piece: number, lastByte = this.sizeBytes - 1, firstByte?: number): BlobReader {
    // Leaves are read whole.
    this.#lastByte = Math.min(leafStart(lastByte) + LEAF_BYTES, this.sizeBytes) - 1;
    this.#firstByte = firstByte === undefined ? undefined : leafStart(firstByte);
    return { move: () => undefined, close: () => undefined };
  }

  async #leavesFrom(id: string, first: number, signal: AbortSignal): Promise<Uint8Array> {
    const count = Math.min(LEAVES_AHEAD, this.#follower.metainfo.pieceCount - first);
    let told: Uint8Array;
    this.#beginRange(id, first);
    try {
      told = await this.#source.leaves(id, first, count, signal);
    } catch (error) {
      if (!isCoded(error, 'ROUTE_UNKNOWN')) throw error;
      this.#stream?.close();
      return await this.#wholePiece(id, first, signal);
    }
    for (let piece = first, at = 0; at < told.length && piece < first + count; piece++) {
      const length = leafCount(pieceLength(this.sizeBytes, piece)) * HASH_BYTES;
      const leaves = told.subarray(at, at + length);
      at += length;
      if (piece > first && !this.#follower.metainfo.knows(piece)) break;
      await this.#follower.untilKnown(piece, signal);
      if (leaves.length !== length || !this.#follower.metainfo.matches(piece, foldLeaves(leaves)))
        throw this.#lied(id, piece);
      this.#leaves.set(piece, leaves);
    }
    const wanted = this.#leaves.get(first);
    if (wanted === undefined) throw this.#lied(id, first);
    return wanted;
  }

  /** For members of an older version: the piece itself tells its leaf hashes. */
  async #wholePiece(id: string, piece: number, signal: AbortSignal): Promise<Uint8Array> {
    const start = piece * PIECE_BYTES;
    const bytes = Buffer.allocUnsafeSlow(pieceLength(this.sizeBytes, piece));
    const body = await this.#source.range(id, start, start + bytes.length - 1, signal);
    const stream = new RangeStream(id, { start, end: start + bytes.length - 1 }, body);
    try {
      await stream.fill(bytes, signal, () => {
        this.#newsMs = performance.now();
      });
    } finally {
      stream.close();
    }
    await this.#follower.untilKnown(piece, signal);
    const leaves = pieceLeaves(bytes);
    if (!this.#follower.metainfo.matches(piece, foldLeaves(leaves))) throw this.#lied(id, piece);
    this.#piece = { index: piece, bytes };
    return leaves;
  }

  /**
   * Beside the question for the leaf hashes of its first piece, not behind it; if that fails, or those are long in coming and
   * others need its place, it was not asked.
   */
  #beginRange(id: string, piece: number): void {
    const start = this.#firstByte;
    this.#firstByte = undefined;
    if (start === undefined || Math.floor(start / PIECE_BYTES) !== piece || this.#stream !== undefined)
      return;
    if (!mayStayOpen(this.#pace, openRangeCount())) return;
    const over = new AbortController();
    const range = { start, end: this.#lastByte };
    const coming = this.#source.range(id, range.start, range.end, over.signal);
    const giveUp = (): void => over.abort(new CodedError('TIMEOUT', { message: `${id} is not waited for` }));
    const stream = new RangeStream(id, range, comingRange(coming, giveUp));
    this.#stream = stream;
    const closeUnread = (): void => {
      if (this.#reading === 0 && this.#stream === stream && stream.at === start) stream.close();
    };
    setTimeout(closeUnread, UNREAD_MS).unref();
    coming.catch((error: unknown) => {
      noteBug(error);
      closeUnread();
    });
  }

  /** The open range if it is of this member and stands here, else a new one. */
  async #streamAt(id: string, offset: number, length: number, signal: AbortSignal): Promise<RangeStream> {
    const open = this.#stream;
    if (open?.id === id && open.at === offset) return open;
    const last = offset + length - 1;
    const end = mayStayOpen(this.#pace, openRangeCount()) ? Math.max(this.#lastByte, last) : last;
    const body = await this.#source.range(id, offset, end, signal);
    if (!signal.aborted) return new RangeStream(id, { start: offset, end }, body);
    body.destroy();
    throw signal.reason;
  }

  async #ask<T>(piece: number, signal: AbortSignal, ask: Ask<T>): Promise<T> {
    const either = new LinkedAbort(signal, this.#closed.signal);
    const order = this.#order;
    const deps = {
      order,
      find: this.#source.find,
      isDefinite: (error: unknown) => this.#isDefinite(error),
      isThere: () => order.holders.areWhole || this.#follower.metainfo.knows(piece),
      progressMs: this.#patienceMs,
      newsMs: () => this.#newsMs,
      failure: () => this.#follower.error,
    };
    try {
      const { id, value } = await askHolders(deps, either.signal, async (one, abort, onBytes) => ({
        id: one,
        value: await ask(one, abort, onBytes),
      }));
      this.#newsMs = performance.now();
      if (order.gave(id)) this.#options.onResume?.(id, piece);
      return value;
    } finally {
      either.unlink();
    }
  }

  /**
   * What the fetching member says of an upstream that failed is the answer while nobody has a byte. Behind that it is tried
   * again as long as a body may wait, but for content that is wrong.
   */
  #isDefinite(error: unknown): boolean {
    if (this.#source.isDefinite(error) || isCoded(error, 'UPSTREAM_LIES')) return true;
    return !this.#hasBegun && isUpstreamFailure(error);
  }

  get #patienceMs(): number {
    const { progressMs, stallMs } = this.#options;
    return this.#hasBegun ? stallMs : progressMs;
  }

  /** Somebody waits for the end, and for too long nobody has answered who was asked about it. */
  #isForsaken(): boolean {
    return performance.now() - Math.max(this.#endWaitedMs, this.#heardMs) > this.#patienceMs;
  }

  #lied(id: string, piece: number): CodedError {
    this.#order.lied(id);
    this.#source.wrong(id, piece);
    return new CodedError('PIECE_BAD', { detail: { digest: this.digest, piece, member: id } });
  }

  #closeWhenUnread(): void {
    this.#readMs = performance.now();
    if (this.#stream === undefined || this.#unread !== undefined) return;
    const look = (): void => {
      const leftMs = this.#readMs + UNREAD_MS - performance.now();
      this.#unread = undefined;
      if (this.#reading > 0) return;
      if (leftMs > 0) this.#unread = setTimeout(look, leftMs);
      else {
        if (this.#stream?.at !== undefined) this.#pace = SLOW_READER;
        this.#stream?.close();
        this.#stream = undefined;
      }
    };
    this.#unread = setTimeout(look, UNREAD_MS);
  }

  readonly #poll = async (
    known: MetainfoNews,
    turn: number,
    signal: AbortSignal,
  ): Promise<MetainfoNews | undefined> => {
    const { ids } = this.#order.holders;
    const at = turn % Math.max(1, ids.length);
    try {
      const id = ids[at];
      if (id === undefined) throw new CodedError('NO_PEERS');
      const news = await this.#source.metainfo(id, known, POLL_MS, signal);
      this.#heardMs = performance.now();
      if (news !== undefined) this.#newsMs = this.#heardMs;
      return news;
    } catch (error) {
      throwIfBug(error);
      // All were asked in vain: others may have it by now.
      const isRound = at >= ids.length - 1 && !signal.aborted && !this.#isDefinite(error);
      if (isRound) this.#order.found(await this.#source.find(signal));
      throw error;
    }
  };
}
