import { LinkedAbort } from '@sepia/base/async/linked-abort';
import { CodedError, isCoded } from '@sepia/base/errors';
import { type Failure, outcomeOf, throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import { ASK_AGAIN_MS, ASK_LOOK_MS } from '../deadlines/bodies.ts';
import { Patience } from './core/patience.ts';
import type { BlobHolders, SourceOrder } from './core/source-order.ts';

/** Asks one member; `onBytes` is called with every sign of progress. */
export type Ask<T> = (id: string, signal: AbortSignal, onBytes: () => void) => Promise<T>;

interface AskDeps {
  readonly order: SourceOrder;
  /** Whoever holds the blob has what is asked for, so that silence is a fault. */
  readonly isThere: () => boolean;
  /** Who has the blob now. */
  readonly find: (signal: AbortSignal) => Promise<BlobHolders>;
  /** True for an answer that no other member would better. */
  readonly isDefinite: (error: unknown) => boolean;
  /** When nothing of what is asked for came for this long, and nobody is waited for, it fails, in ms. */
  readonly progressMs: number;
  /** When something of it came last, on the clock of `performance.now`. */
  readonly newsMs: () => number;
  /** What ends it from outside. */
  readonly failure: () => unknown;
}

interface Outcome<T> {
  readonly id: string;
  readonly value?: T;
  readonly error?: unknown;
  /** Set if it failed. */
  readonly kind?: Failure;
}

interface Try<T> {
  readonly abort: LinkedAbort;
  readonly outcome: Promise<Outcome<T>>;
  readonly startedMs: number;
  lastByteMs: number;
}

/**
 * Asks the holders of a blob in the order's turn until one answers, another beside those that are silent; the rest is aborted.
 * Looks for holders again when all failed. A bug is thrown, silence and refusal go to the next member.
 * @throws `NO_PEERS` without progress for `progressMs`, or when all holders say that nobody has it, a definite answer, `STALE_ATTEMPT`
 */
export async function askHolders<T>(deps: AskDeps, signal: AbortSignal, ask: Ask<T>): Promise<T> {
  const { order, isDefinite } = deps;
  const running = new Map<string, Try<T>>();
  const tried = new Set<string>();
  const giveUp = (id: string): void => {
    running.get(id)?.abort.abort(new CodedError('TIMEOUT', { message: `${id} is not waited for` }));
    running.delete(id);
  };
  const patience = new Patience(deps.progressMs, performance.now());
  try {
    for (;;) {
      signal.throwIfAborted();
      if (deps.failure() !== undefined) throw deps.failure();
      const step = order.next(askedOf(running), tried, deps.isThere());
      if (step.type === 'give-up') {
        for (const id of step.ids) {
          giveUp(id);
          order.failed(id);
          patience.gaveUp();
        }
        continue;
      }
      if (step.type === 'nobody') {
        const failure = patience.roundEnded(deps.newsMs(), performance.now());
        if (failure !== undefined) throw failure;
        await delay(ASK_AGAIN_MS, signal);
        await findAgain(deps, signal);
        tried.clear();
        continue;
      }
      if (step.type === 'ask') {
        tried.add(step.id);
        running.set(step.id, begin(step.id, signal, ask));
      }
      const done = await firstOf(running, signal);
      if (done === undefined) continue;
      const { startedMs } = running.get(done.id)!;
      running.delete(done.id);
      const { error, kind } = done;
      if (kind === undefined) return done.value as T;
      if (kind === 'bug' || isCoded(error, 'STALE_ATTEMPT') || isDefinite(error)) throw error;
      order.failed(done.id);
      patience.failed(error, kind === 'silence', startedMs, performance.now());
    }
  } finally {
    for (const id of [...running.keys()]) giveUp(id);
  }
}

function begin<T>(id: string, signal: AbortSignal, ask: Ask<T>): Try<T> {
  const abort = new LinkedAbort(signal);
  const startedMs = performance.now();
  const one: Try<T> = {
    abort,
    startedMs,
    lastByteMs: startedMs,
    outcome: ask(id, abort.signal, () => {
      one.lastByteMs = performance.now();
    })
      .then(
        (value) => ({ id, value }),
        (error: unknown) => {
          // What it left under way ends too: an answer that comes late would keep its socket, and nobody would hear it break.
          abort.abort(new CodedError('TIMEOUT', { message: `${id} failed` }));
          return { id, error, kind: outcomeOf(error) };
        },
      )
      .finally(() => abort.unlink()),
  };
  return one;
}

function askedOf<T>(running: ReadonlyMap<string, Try<T>>) {
  const nowMs = performance.now();
  return [...running].map(([id, one]) => ({ id, silentMs: nowMs - one.lastByteMs }));
}

/** The first try that ends, or undefined when it is time to look again. */
async function firstOf<T>(running: ReadonlyMap<string, Try<T>>, signal: AbortSignal) {
  const outcomes = [...running.values()].map((one) => one.outcome);
  return await new Promise<Outcome<T> | undefined>((resolve, reject) => {
    const done = (settle: () => void): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      settle();
    };
    // What has come is looked at first: on a busy machine that is late too, and would be taken for silence.
    const look = (): void => void setImmediate(() => done(() => resolve(undefined)));
    const timer = setTimeout(look, ASK_LOOK_MS);
    const onAbort = (): void => done(() => reject(signal.reason));
    signal.addEventListener('abort', onAbort, { once: true });
    for (const outcome of outcomes) void outcome.then((one) => done(() => resolve(one)));
  });
}

async function findAgain({ order, find, isDefinite }: AskDeps, signal: AbortSignal): Promise<void> {
  try {
    order.found(await find(signal));
  } catch (error) {
    throwIfBug(error);
    signal.throwIfAborted();
    if (isDefinite(error)) throw error;
  }
}
