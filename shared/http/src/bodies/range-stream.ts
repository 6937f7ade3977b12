import { giveBack, giveBackRead } from '@sepia/base/chunk';
import { CodedError } from '@sepia/base/errors';
import { readElsewhere } from '@sepia/base/failure';

/** Bytes of a blob on their way from one member: exactly the range that was asked for, or an error. */
export interface RangeBody extends AsyncIterable<Uint8Array> {
  destroy(): void;
  /** Frees the memory of a chunk, once it and all before it were read; else only of one that is alone in it. */
  giveBack?(chunk: Uint8Array): void;
}

/** What a member answers to a request for a range. */
interface RangeAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: AsyncIterable<Uint8Array> & {
    on(event: 'error', listener: () => void): unknown;
    destroy(): void;
  };
}

/** The body of the answer that member `id` gave to a request for this range. @throws `PEER_HTTP` where it gave another */
export function answeredRange(
  { status, headers, body }: RangeAnswer,
  { start, end }: { readonly start: number; readonly end: number },
  id: string,
): RangeBody {
  // Whoever reads hears of an error by reading; after that nobody listens.
  body.on('error', () => undefined);
  const range = String(headers['content-range'] ?? '');
  if (status !== 206 || !range.startsWith(`bytes ${start}-${end}/`)) {
    body.destroy();
    throw new CodedError('PEER_HTTP', {
      message: `${id} answered with another range`,
      detail: { status, range },
    });
  }
  return {
    [Symbol.asyncIterator]: () => body[Symbol.asyncIterator](),
    destroy: () => body.destroy(),
    giveBack: giveBackRead,
  };
}

/** A body whose answer is still to come; `giveUp` ends the question for it. */
export function comingRange(coming: Promise<RangeBody>, giveUp: () => void): RangeBody {
  let body: RangeBody | undefined;
  let chunks: AsyncIterator<Uint8Array> | undefined;
  const next = async (): Promise<IteratorResult<Uint8Array>> => {
    body ??= await coming;
    chunks ??= body[Symbol.asyncIterator]();
    return await chunks.next();
  };
  return {
    [Symbol.asyncIterator]: () => ({ next }),
    destroy: () => {
      if (body !== undefined) return body.destroy();
      giveUp();
      readElsewhere(coming.then((one) => one.destroy()));
    },
    giveBack: (chunk) => (body?.giveBack === undefined ? giveBack(chunk) : body.giveBack(chunk)),
  };
}

/** Ranges that are open in this process. */
let openRanges = 0;

/** Ranges of other members that this process reads now. */
export function openRangeCount(): number {
  return openRanges;
}

/** One open range of one member, read in order. It knows where it stands, so that nothing is ever taken for a later byte. */
export class RangeStream {
  readonly id: string;
  /** The blob's byte that comes next. */
  #at: number;
  /** The blob's byte behind the range. */
  readonly #end: number;
  readonly #body: RangeBody;
  readonly #chunks: AsyncIterator<Uint8Array>;
  #rest: Uint8Array = new Uint8Array(0);
  #used = 0;
  #closed = false;

  /** `end`: its last byte. */
  constructor(id: string, range: { readonly start: number; readonly end: number }, body: RangeBody) {
    this.id = id;
    this.#at = range.start;
    this.#end = range.end + 1;
    openRanges += 1;
    this.#body = body;
    this.#chunks = body[Symbol.asyncIterator]();
  }

  /** The blob's byte that {@link RangeStream.fill} begins with; undefined once it is of no use any more. */
  get at(): number | undefined {
    return this.#closed ? undefined : this.#at;
  }

  /** True once all of it was read. */
  get isRead(): boolean {
    return this.#at === this.#end;
  }

  /** Fills all of `into`; `onBytes` hears of every arrival. @throws `PEER_HTTP` when the body ends early; closed then */
  async fill(into: Uint8Array, signal: AbortSignal, onBytes: (bytes: number) => void): Promise<void> {
    try {
      for (let filled = 0; filled < into.length; ) {
        if (this.#used === this.#rest.length) await this.#next(signal, onBytes);
        const take = Math.min(into.length - filled, this.#rest.length - this.#used);
        into.set(this.#rest.subarray(this.#used, this.#used + take), filled);
        this.#used += take;
        filled += take;
      }
      if (this.#at + into.length === this.#end) await this.#finish(signal);
    } catch (error) {
      this.close();
      throw error;
    }
    this.#at += into.length;
    if (this.#used === this.#rest.length) this.#letGo();
  }

  /** Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    openRanges -= 1;
    this.#letGo();
    this.#body.destroy();
  }

  /** Reads the end of the body, so that its connection is used again. */
  async #finish(signal: AbortSignal): Promise<void> {
    const step = await orAborted(this.#chunks.next(), signal, this.id);
    if (step.done === true) return;
    throw new CodedError('PEER_HTTP', { message: `${this.id} sent more than the range` });
  }

  async #next(signal: AbortSignal, onBytes: (bytes: number) => void): Promise<void> {
    this.#letGo();
    const step = await orAborted(this.#chunks.next(), signal, this.id);
    signal.throwIfAborted();
    if (step.done === true) throw new CodedError('PEER_HTTP', { message: `${this.id} cut a body` });
    onBytes(step.value.length);
    this.#rest = step.value;
  }

  /** The chunk's memory goes back at once. */
  #letGo(): void {
    if (this.#body.giveBack === undefined) giveBack(this.#rest);
    else this.#body.giveBack(this.#rest);
    this.#rest = new Uint8Array(0);
    this.#used = 0;
  }
}

/** What `work` resolves with, unless the signal is aborted before. An error of the network is `PEER_HTTP`. */
async function orAborted<T>(work: Promise<T>, signal: AbortSignal, id: string): Promise<T> {
  return await new Promise<T>((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
    work
      .then(resolve, (cause: unknown) =>
        reject(
          cause instanceof CodedError
            ? cause
            : new CodedError('PEER_HTTP', { message: `the body of ${id} was cut`, cause }),
        ),
      )
      .finally(() => signal.removeEventListener('abort', onAbort));
  });
}
