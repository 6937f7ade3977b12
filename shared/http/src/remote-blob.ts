import { type Digest, Digester, digestAlgorithm } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { delay } from '@sepia/base/lifecycle';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceHash, pieceLength } from '@sepia/metainfo/tree';
import type { BlobReader, ReadableBlob } from './serve-blob.ts';

/** Another member is asked beside one whose bytes do not come for this long, in ms. */
const STALL_MS = 1_000;
/** A member whose bytes do not come for this long is given up; then it is asked anew like any other, in ms. */
const RENEW_MS = 4_000;
/** How often the silence of a member is looked at, in ms. */
const LOOK_MS = 250;
/** Pause before members are looked for again after all have failed, in ms. */
const RETRY_MS = 250;
/** Long-poll for more hashes, in ms. */
const POLL_MS = 10_000;

/** Members that can send a blob, best first. */
export interface BlobHolders {
  readonly ids: readonly string[];
  /** All have the whole blob, so that several may be asked at once. Else the first is fetching it: it is waited for. */
  readonly areWhole: boolean;
}

/** Bytes of a blob on their way from one member: exactly the range that was asked for, or an error. */
export interface RangeBody extends AsyncIterable<Uint8Array> {
  destroy(): void;
}

/** How the members that hold a blob are asked. Errors are coded; answers are not believed. */
export interface BlobSource {
  /** Who has it now. @throws when nobody answers */
  find(signal: AbortSignal): Promise<BlobHolders>;
  /** Metainfo, or undefined when there is nothing newer than `known` within `waitMs`. */
  metainfo(
    id: string,
    known: Metainfo | undefined,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<Metainfo | undefined>;
  /** Bytes `start` to `end`, inclusive. */
  range(id: string, start: number, end: number, signal: AbortSignal): Promise<RangeBody>;
  /** True for an answer that no other member would better. */
  isDefinite(error: unknown): boolean;
  /** The member sent a piece that does not match its hash. */
  wrong(id: string, piece: number): void;
}

interface RemoteBlobOptions {
  /** When no member gave a sign of life for this long, the blob fails, in ms. */
  readonly progressMs: number;
  /** Called when a member takes over from another in the middle of the blob. */
  readonly onResume?: (id: string, piece: number) => void;
}

/** One member that was asked for a piece. */
interface Try {
  readonly id: string;
  readonly abort: AbortController;
  readonly outcome: Promise<{ readonly id: string; readonly bytes?: Uint8Array; readonly error?: unknown }>;
  lastByteMs: number;
}

/**
 * A blob at other members, read piece by piece; each is checked against the metainfo of a member that vouches for it.
 * Whoever stalls, breaks or lies is replaced by another member, for that piece alone: nothing is ever carried over
 * from one to the other. A body from byte 0 of a blob that is not final yet has its whole digest checked here too.
 */
export class RemoteBlob implements ReadableBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly #source: BlobSource;
  readonly #options: RemoteBlobOptions;
  readonly #metainfo: Metainfo;
  readonly #closed = new AbortController();
  readonly #waiting = new Set<() => void>();
  /** Members that sent wrong bytes are not asked again; those that failed are asked last. */
  readonly #liars = new Set<string>();
  readonly #failed = new Set<string>();
  /** Undefined when the blob was final at once: its tree is bound to its digest. */
  #whole: Digester | undefined;
  #hashedPieces = 0;
  #lastPiece: Uint8Array | undefined;
  #holders: BlobHolders;
  #lastId: string | undefined;
  #isVerified: boolean;
  #error: unknown;

  private constructor(
    source: BlobSource,
    options: RemoteBlobOptions,
    holders: BlobHolders,
    metainfo: Metainfo,
  ) {
    this.digest = metainfo.digest;
    this.sizeBytes = metainfo.sizeBytes;
    this.#source = source;
    this.#options = options;
    this.#holders = holders;
    this.#metainfo = metainfo;
    this.#isVerified = metainfo.state === 'final';
    if (this.#isVerified) return;
    this.#whole = new Digester(digestAlgorithm(this.digest));
    this.#poll().catch((error: unknown) => this.#fail(error));
  }

  /** A blob of `holders`, whose metainfo one of them told. Close it. */
  static of(
    source: BlobSource,
    options: RemoteBlobOptions,
    begun: { readonly holders: BlobHolders; readonly metainfo: Metainfo },
  ): RemoteBlob {
    return new RemoteBlob(source, options, begun.holders, Metainfo.decode(begun.metainfo.encode()));
  }

  get isFinal(): boolean {
    return this.#isVerified;
  }

  /** Idempotent. */
  close(): void {
    this.#closed.abort(new CodedError('TIMEOUT', { message: 'reader is gone' }));
  }

  async readPiece(index: number, signal: AbortSignal): Promise<Uint8Array> {
    const kept = index === this.#metainfo.pieceCount - 1 ? this.#lastPiece : undefined;
    const bytes = kept ?? (await this.#piece(index, signal));
    if (index === this.#hashedPieces && kept === undefined) this.#hash(bytes);
    return bytes;
  }

  async whenFinal(signal: AbortSignal): Promise<void> {
    const either = AbortSignal.any([signal, this.#closed.signal]);
    while (this.#metainfo.state === 'open') await this.#news(either);
    const last = this.#metainfo.pieceCount - 1;
    if (this.#whole !== undefined && this.#hashedPieces === last && last >= 0) {
      this.#lastPiece = await this.#piece(last, either);
      this.#hash(this.#lastPiece);
    }
    if (this.#whole !== undefined && this.#hashedPieces > last && this.#whole.digest() !== this.digest)
      throw new CodedError('UPSTREAM_LIES', { detail: { digest: this.digest } });
    this.#whole = undefined;
    this.#isVerified = true;
  }

  openReader(): BlobReader {
    return { move: () => undefined, close: () => undefined };
  }

  #hash(bytes: Uint8Array): void {
    this.#whole?.update(bytes);
    this.#hashedPieces += 1;
  }

  /** One verified piece from whoever gives it first. */
  async #piece(index: number, signal: AbortSignal): Promise<Uint8Array> {
    const either = AbortSignal.any([signal, this.#closed.signal]);
    const running = new Map<string, Try>();
    const tried = new Set<string>();
    let signMs = performance.now();
    try {
      for (;;) {
        either.throwIfAborted();
        if (this.#error !== undefined) throw this.#error;
        this.#giveUp(running, index);
        const next = this.#mayAsk(running, index) ? this.#next(tried) : undefined;
        if (next !== undefined) {
          tried.add(next);
          running.set(next, this.#try(next, index, either));
        } else if (running.size === 0) {
          if (performance.now() - signMs > this.#options.progressMs)
            throw new CodedError('NO_PEERS', { detail: { digest: this.digest, piece: index } });
          await delay(RETRY_MS, either);
          await this.#findAgain(either);
          tried.clear();
          continue;
        }
        const done = await firstOf(running, either);
        if (done === undefined) continue;
        running.delete(done.id);
        if (done.bytes !== undefined) return this.#took(done.id, index, done.bytes);
        if (this.#source.isDefinite(done.error) || isCoded(done.error, 'STALE_ATTEMPT')) throw done.error;
        this.#failed.add(done.id);
        if (!this.#holders.areWhole && !isSilent(done.error)) signMs = performance.now();
      }
    } finally {
      for (const { abort } of running.values())
        abort.abort(new CodedError('TIMEOUT', { message: 'not needed' }));
    }
  }

  #took(id: string, index: number, bytes: Uint8Array): Uint8Array {
    if (this.#lastId !== undefined && this.#lastId !== id) this.#options.onResume?.(id, index);
    this.#lastId = id;
    this.#failed.delete(id);
    return bytes;
  }

  /** True if nobody is asked yet, or all that are asked are silent and others have the piece too. */
  #mayAsk(running: ReadonlyMap<string, Try>, index: number): boolean {
    if (running.size === 0) return true;
    return this.#isThere(index) && [...running.values()].every((one) => silentMs(one) >= STALL_MS);
  }

  /** Lets go of those that should have sent the piece long ago. */
  #giveUp(running: Map<string, Try>, index: number): void {
    if (!this.#isThere(index)) return;
    for (const [id, one] of running) {
      if (silentMs(one) < RENEW_MS) continue;
      running.delete(id);
      this.#failed.add(id);
      one.abort.abort(new CodedError('TIMEOUT', { message: `${id} is silent` }));
    }
  }

  /** True if whoever holds the blob has the piece: a fetching member must be waited for before. */
  #isThere(index: number): boolean {
    return this.#holders.areWhole || this.#metainfo.knows(index);
  }

  /** The member to ask next: the one of the piece before, then those that have not failed. */
  #next(tried: ReadonlySet<string>): string | undefined {
    const left = this.#holders.ids.filter((id) => !tried.has(id) && !this.#liars.has(id));
    const fresh = left.filter((id) => !this.#failed.has(id));
    return fresh.find((id) => id === this.#lastId) ?? fresh[0] ?? left[0];
  }

  #try(id: string, index: number, signal: AbortSignal): Try {
    const abort = new AbortController();
    const either = AbortSignal.any([signal, abort.signal]);
    const one: Try = {
      id,
      abort,
      lastByteMs: performance.now(),
      outcome: this.#fetch(id, index, either, () => {
        one.lastByteMs = performance.now();
      }).then(
        (bytes) => ({ id, bytes }),
        (error: unknown) => ({ id, error }),
      ),
    };
    return one;
  }

  async #fetch(id: string, index: number, signal: AbortSignal, onBytes: () => void): Promise<Uint8Array> {
    const start = index * PIECE_BYTES;
    const length = pieceLength(this.sizeBytes, index);
    const body = await this.#source.range(id, start, start + length - 1, signal);
    const bytes = Buffer.allocUnsafeSlow(length);
    let fill = 0;
    try {
      for await (const chunk of body) {
        onBytes();
        if (fill + chunk.length > length) throw this.#wrongBytes(id, index);
        bytes.set(chunk, fill);
        fill += chunk.length;
      }
    } finally {
      body.destroy();
    }
    if (fill < length) throw new CodedError('PEER_HTTP', { message: `${id} cut a piece` });
    while (!this.#metainfo.knows(index)) await this.#news(signal);
    if (!this.#metainfo.matches(index, pieceHash(bytes))) throw this.#wrongBytes(id, index);
    return bytes;
  }

  #wrongBytes(id: string, piece: number): CodedError {
    this.#liars.add(id);
    this.#source.wrong(id, piece);
    return new CodedError('PIECE_BAD', { detail: { digest: this.digest, piece, member: id } });
  }

  async #findAgain(signal: AbortSignal): Promise<void> {
    try {
      this.#holders = await this.#source.find(signal);
      // Nobody else is left: whoever lied may have mended its copy.
      if (this.#holders.ids.every((id) => this.#liars.has(id))) this.#liars.clear();
    } catch (error) {
      signal.throwIfAborted();
      if (!isCoded(error) || this.#source.isDefinite(error)) throw error;
    }
  }

  /** Learns hashes until the metainfo is final. */
  async #poll(): Promise<void> {
    const { signal } = this.#closed;
    for (let turn = 0; this.#metainfo.state === 'open' && !signal.aborted; ) {
      const id = this.#holders.ids[turn % Math.max(1, this.#holders.ids.length)];
      try {
        if (id === undefined) throw new CodedError('NO_PEERS');
        const news = await this.#source.metainfo(id, this.#metainfo, POLL_MS, signal);
        if (news !== undefined) this.#learn(news);
      } catch (error) {
        if (signal.aborted) return;
        if (!isCoded(error) || isCoded(error, 'STALE_ATTEMPT') || this.#source.isDefinite(error)) throw error;
        turn += 1;
        await delay(RETRY_MS, signal);
      }
    }
  }

  #learn(news: Metainfo): void {
    if (this.#metainfo.merge(news) === 'replaced')
      throw new CodedError('STALE_ATTEMPT', { detail: { digest: this.digest } });
    this.#tell();
  }

  #fail(error: unknown): void {
    if (this.#closed.signal.aborted) return;
    this.#error = error;
    this.#tell();
  }

  #tell(): void {
    for (const wake of [...this.#waiting]) wake();
  }

  /** Resolves at the next change of the metainfo. @throws what ended the polling, the signal's reason */
  async #news(signal: AbortSignal): Promise<void> {
    if (this.#error !== undefined) throw this.#error;
    await new Promise<void>((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const done = (settle: () => void): void => {
        this.#waiting.delete(wake);
        signal.removeEventListener('abort', onAbort);
        settle();
      };
      const wake = (): void => done(resolve);
      const onAbort = (): void => done(() => reject(signal.reason));
      this.#waiting.add(wake);
      signal.addEventListener('abort', onAbort, { once: true });
    });
    if (this.#error !== undefined) throw this.#error;
  }
}

function silentMs(one: Try): number {
  return performance.now() - one.lastByteMs;
}

/** The first try that ends, or undefined when it is time to look again. */
async function firstOf(running: ReadonlyMap<string, Try>, signal: AbortSignal) {
  const enough = new AbortController();
  const look = delay(LOOK_MS, AbortSignal.any([signal, enough.signal])).then(() => undefined);
  look.catch(() => undefined);
  try {
    return await Promise.race([...[...running.values()].map((one) => one.outcome), look]);
  } finally {
    enough.abort();
  }
}

/** True when a member gave no answer at all. */
function isSilent(error: unknown): boolean {
  return isCoded(error, 'PEER_HTTP') && error.detail['status'] === undefined;
}
