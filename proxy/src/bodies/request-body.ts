import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { CodedError } from '@sepia/base/errors';
import { DRAIN_MS, WATCH_EVERY_MS } from '../deadlines.ts';
import { type FlowLimits, judgeFlow } from './core/flow.ts';

/** Chunks of a request body held at once; Node reads up to 64 KiB per chunk. */
const BUFFER_CHUNKS = 4;

/**
 * A request's body as a stream for an origin, with back-pressure and without ever destroying the client's socket:
 * the client must still see our answer. Knows for whom it waits.
 *
 * In object mode, since the HTTP client turns a byte stream that has already ended into a body with length, while
 * the call was signed as chunked.
 */
export class RequestBody extends Readable {
  readonly #req: IncomingMessage;
  #receivedBytes = 0;
  #receivedChunks = 0;
  #isComplete = false;

  constructor(req: IncomingMessage) {
    super({ objectMode: true, highWaterMark: BUFFER_CHUNKS });
    this.#req = req;
    req.on('data', this.#onData);
    req.once('end', this.#onEnd);
    req.once('close', this.#onClose);
    req.once('error', this.#onClose);
    req.pause();
    this.on('error', () => undefined);
  }

  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  /** Chunks that the origin took. */
  get takenChunks(): number {
    return this.#receivedChunks - this.readableLength;
  }

  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** True when the next move is the origin's. */
  get waitsForOrigin(): boolean {
    return this.#isComplete || this.readableLength > 0;
  }

  /** True once a byte is there, false when the body ended without one. Rejects when the client cuts it. */
  async hasBytes(signal: AbortSignal): Promise<boolean> {
    this.#req.resume();
    while (this.#receivedBytes === 0 && !this.#isComplete) {
      if (this.errored !== null) throw this.errored;
      await new Promise<void>((resolve, reject) => {
        const settle = (): void => {
          for (const name of ['data', 'end', 'close', 'error'] as const) this.#req.off(name, settle);
          signal.removeEventListener('abort', settle);
          if (signal.aborted) reject(signal.reason);
          else resolve();
        };
        for (const name of ['data', 'end', 'close', 'error'] as const) this.#req.once(name, settle);
        signal.addEventListener('abort', settle, { once: true });
        if (signal.aborted) settle();
      });
    }
    return this.#receivedBytes > 0;
  }

  /**
   * All of a small body that comes within `ms`; else undefined, and it can be read as before. Nothing is lost of one that its
   * client cuts or sends slowly.
   */
  async gathered(ms: number): Promise<Buffer | undefined> {
    this.#req.resume();
    if (!this.#isComplete && this.errored === null)
      await new Promise<void>((resolve) => {
        const settle = (): void => {
          clearTimeout(late);
          this.#req.off('data', goOn);
          for (const name of ['end', 'close', 'error'] as const) this.#req.off(name, settle);
          resolve();
        };
        // It is small: nobody reads it yet, but more chunks of it than a stream holds are no reason to pause.
        const goOn = (): void => void this.#req.resume();
        const late = setTimeout(settle, ms);
        this.#req.on('data', goOn);
        for (const name of ['end', 'close', 'error'] as const) this.#req.once(name, settle);
      });
    if (!this.#isComplete) return undefined;
    const chunks: Buffer[] = [];
    for (let chunk: unknown = this.read(); chunk !== null; chunk = this.read()) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks);
  }

  override _read(): void {
    this.#req.resume();
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#req.off('data', this.#onData);
    this.#req.off('end', this.#onEnd);
    if (!this.#isComplete) this.#req.resume();
    callback(error);
  }

  readonly #onData = (chunk: Buffer): void => {
    this.#receivedBytes += chunk.length;
    this.#receivedChunks += 1;
    if (!this.push(chunk)) this.#req.pause();
  };

  readonly #onEnd = (): void => {
    this.#isComplete = true;
    this.push(null);
  };

  readonly #onClose = (): void => {
    if (!this.#isComplete && !this.destroyed) {
      this.destroy(new CodedError('UPLOAD_INVALID', { message: 'client cut the request body' }));
    }
  };
}

/** Aborts `abort` when {@link judgeFlow} says that a side has stopped. Call the returned function to end the watch. */
export function watchFlow(
  body: RequestBody,
  limits: FlowLimits,
  isAlive: () => boolean,
  abort: AbortController,
): () => void {
  let [taken, received] = [body.takenChunks, body.receivedBytes];
  let clientMovedMs = performance.now();
  let originMovedMs = clientMovedMs;
  const timer = setInterval(() => {
    const nowMs = performance.now();
    if (body.receivedBytes !== received) clientMovedMs = nowMs;
    if (body.takenChunks !== taken || !body.waitsForOrigin) originMovedMs = nowMs;
    [taken, received] = [body.takenChunks, body.receivedBytes];
    const figures = {
      clientIdleMs: nowMs - clientMovedMs,
      originIdleMs: nowMs - originMovedMs,
      waitsForOrigin: body.waitsForOrigin,
      isComplete: body.isComplete,
      originAlive: isAlive(),
    };
    const verdict = judgeFlow(figures, limits);
    if (verdict === 'flows') return;
    clearInterval(timer);
    abort.abort(verdictError(verdict));
  }, WATCH_EVERY_MS);
  return () => clearInterval(timer);
}

function verdictError(verdict: 'client-idle' | 'origin-lost' | 'origin-stuck'): CodedError {
  if (verdict === 'origin-lost')
    return new CodedError('UPLOAD_UNKNOWN', {
      message: 'the origin that holds this upload stopped answering; begin the push again',
    });
  return new CodedError('TIMEOUT', {
    message:
      verdict === 'client-idle'
        ? 'the request body made no progress'
        : 'the origin took no byte of the request body',
  });
}

/** Lets a request whose body was not wanted end: reads it on for a while, then cuts. Call once the answer is written. */
export function drainRequest(req: IncomingMessage): void {
  if (req.complete || req.destroyed) return;
  // A stream that nobody reads any more would pause it.
  req.removeAllListeners('data');
  req.resume();
  const cut = setTimeout(() => req.socket.destroy(), DRAIN_MS);
  cut.unref();
  req.once('end', () => clearTimeout(cut));
  req.once('close', () => clearTimeout(cut));
}
