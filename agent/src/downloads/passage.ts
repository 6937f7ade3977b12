import { type Digest, Digester, digestAlgorithm } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { ignoreFailure, readElsewhere, throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { BlobReader, ReadableBlob } from '@sepia/http/serve-blob';
import { Metainfo } from '@sepia/metainfo/metainfo';
import type { PartialBlob } from '@sepia/store/partial-blob';
import { isDecisive } from '../cluster/members.ts';
import type { Guide } from './download.ts';

/** Pieces fetched ahead of the reader; each is in memory. */
const AHEAD = 2;
const RETRY_MS = 200;
/** A piece further than this from what the origin has reached is asked for out of order. */
const NEAR_PIECES = 4;

interface PassageDeps {
  readonly guide: Guide;
  readonly nowMs: () => number;
  /** Without progress for this long the reader fails, in ms. */
  readonly progressMs: number;
  readonly onBytes: (bytes: number) => void;
  /** The whole digest came out wrong. */
  readonly onWrong: () => void;
  /** The cluster vouches for the whole digest. */
  readonly onVerified: (final: Metainfo) => void;
  /** The origin dropped this attempt and began another; pieces of it may have been read. */
  readonly onDropped: (attempt: Metainfo) => void;
}

interface PassageStart {
  readonly metainfo: Metainfo;
  /** Pieces that were stored before the disk was full. */
  readonly stored?: PartialBlob;
  /** First piece that the reader got, if it has begun. */
  readonly firstPiece?: number | undefined;
}

/**
 * A blob on its way to one reader that is not kept here, because the disk is full: pieces come from the origins,
 * each is verified, a body from byte 0 has its whole digest checked before the last piece.
 */
export class Passage implements ReadableBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly #deps: PassageDeps;
  readonly #metainfo: Metainfo;
  /** Of the last answer. */
  #etag: string;
  readonly #stored: PartialBlob | undefined;
  readonly #ahead = new Map<number, Promise<Uint8Array>>();
  readonly #whole: Digester;
  #hashedPieces = 0;
  #firstPiece: number | undefined;
  #verified = false;

  constructor(deps: PassageDeps, start: PassageStart) {
    this.#deps = deps;
    this.#metainfo = Metainfo.decode(start.metainfo.encode());
    this.#etag = this.#metainfo.etag;
    this.#stored = start.stored;
    this.#firstPiece = start.firstPiece;
    this.digest = start.metainfo.digest;
    this.sizeBytes = start.metainfo.sizeBytes;
    this.#whole = new Digester(digestAlgorithm(this.digest));
  }

  get isFinal(): boolean {
    return this.#verified;
  }

  async readPiece(index: number, signal: AbortSignal): Promise<Uint8Array> {
    this.#firstPiece ??= index;
    const bytes = await this.#piece(index, signal);
    for (let next = index + 1; next <= index + AHEAD && this.#metainfo.knows(next); next++)
      this.#prefetch(next, signal);
    if (index === this.#hashedPieces) this.#hash(bytes);
    return bytes;
  }

  /** Resolves when the cluster vouches for the whole digest and, where all of the blob is read, so do we. */
  async whenFinal(signal: AbortSignal): Promise<void> {
    if (this.#metainfo.state === 'open') await this.#wantAll(signal);
    while (this.#metainfo.state === 'open') await this.#learnMore(signal);
    if ((this.#firstPiece ?? 0) === 0) {
      const { pieceCount } = this.#metainfo;
      while (this.#hashedPieces < pieceCount) {
        const index = this.#hashedPieces;
        const bytes = await this.#piece(index, signal);
        // Read again by the one who asked for it.
        if (index === pieceCount - 1) this.#ahead.set(index, Promise.resolve(bytes));
        this.#hash(bytes);
      }
      if (!this.#verified && this.#whole.digest() !== this.digest) {
        this.#deps.onWrong();
        throw new CodedError('UPSTREAM_LIES', { detail: { digest: this.digest } });
      }
    }
    if (!this.#verified) this.#deps.onVerified(this.#metainfo);
    this.#verified = true;
  }

  openReader(): BlobReader {
    return { move: () => undefined, close: () => this.#ahead.clear() };
  }

  /** Where only ranges were fetched so far the rest is asked for. */
  async #wantAll(signal: AbortSignal): Promise<void> {
    this.#deps.guide.wantAll();
    const { metainfo } = await this.#persist(async () => await this.#deps.guide.find(signal), signal);
    this.#learn(metainfo, metainfo.etag);
  }

  #hash(bytes: Uint8Array): void {
    this.#whole.update(bytes);
    this.#hashedPieces += 1;
  }

  #prefetch(index: number, signal: AbortSignal): void {
    if (this.#ahead.has(index)) return;
    const coming = this.#fetch(index, signal);
    readElsewhere(coming, () => this.#ahead.delete(index));
    this.#ahead.set(index, coming);
  }

  async #piece(index: number, signal: AbortSignal): Promise<Uint8Array> {
    const coming = this.#ahead.get(index);
    this.#ahead.delete(index);
    if (coming !== undefined) return await coming;
    if (this.#stored?.have.has(index) === true) return await this.#stored.readPiece(index);
    if (!this.#metainfo.knows(index)) await this.#untilKnown(index, signal);
    return await this.#fetch(index, signal);
  }

  async #untilKnown(index: number, signal: AbortSignal): Promise<void> {
    const known = new AbortController();
    if (index > this.#metainfo.knownPrefix + NEAR_PIECES)
      this.#deps.guide
        .urge({ sizeBytes: this.sizeBytes, index, lastPiece: index }, AbortSignal.any([signal, known.signal]))
        .catch(ignoreFailure);
    try {
      while (!this.#metainfo.knows(index)) await this.#learnMore(signal);
    } finally {
      known.abort();
    }
  }

  async #learnMore(signal: AbortSignal): Promise<void> {
    const news = await this.#persist(
      async () => await this.#deps.guide.poll(this.#metainfo, this.#etag, signal),
      signal,
    );
    if (news !== undefined) this.#learn(news.metainfo, news.etag);
  }

  #learn(news: Metainfo, etag: string): void {
    this.#etag = etag;
    if (this.#metainfo.merge(news) === 'replaced') {
      this.#deps.onDropped(this.#metainfo);
      throw new CodedError('STALE_ATTEMPT', {
        message: 'the origin began a new attempt',
        detail: { digest: this.digest },
      });
    }
  }

  async #fetch(index: number, signal: AbortSignal): Promise<Uint8Array> {
    const piece = await this.#persist(
      async () => await this.#deps.guide.refetch(this.#metainfo, index, signal),
      signal,
    );
    this.#deps.onBytes(piece.length);
    return piece;
  }

  /** Tries again until it works or `progressMs` have passed. */
  async #persist<T>(attempt: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const sinceMs = this.#deps.nowMs();
    for (;;) {
      try {
        return await attempt();
      } catch (error) {
        throwIfBug(error);
        signal.throwIfAborted();
        const late = this.#deps.nowMs() - sinceMs > this.#deps.progressMs;
        if (late || isDecisive(error) || isCoded(error, 'STALE_ATTEMPT')) throw error;
        await delay(RETRY_MS, signal);
      }
    }
  }
}
