import { boundedMs } from '../bounded-ms.ts';
import { CodedError } from '../errors.ts';
import { isBug } from '../failure.ts';

interface HedgeOptions {
  /** The next candidate is asked beside the running ones after this silence, in ms. */
  readonly hedgeAfterMs: number;
  readonly signal?: AbortSignal;
  /** True for an answer that no other candidate can better (a definite "no"): it is thrown at once. */
  readonly isFinal?: (error: unknown) => boolean;
}

/**
 * Asks candidates in order until one answers: the next is asked when one fails or is silent for
 * `hedgeAfterMs`. The first success wins; the others are aborted, as all are when the signal
 * is. When all fail, the last error is thrown; a bug is thrown at once.
 */
export async function firstAnswer<C, T>(
  candidates: readonly C[],
  ask: (candidate: C, signal: AbortSignal) => Promise<T>,
  options: HedgeOptions,
): Promise<T> {
  if (candidates.length === 0) throw new CodedError('NO_PEERS', { message: 'nobody to ask' });
  const aborts: AbortController[] = [];
  return await new Promise<T>((resolve, reject) => {
    let next = 0;
    let running = 0;
    let timer: NodeJS.Timeout | undefined;
    let done = false;
    const finish = (settle: () => void, winner?: AbortController): void => {
      if (done) return;
      done = true;
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', onAbort);
      settle();
      for (const one of aborts) if (one !== winner) one.abort(reasonOfEnd(winner, options.signal));
    };
    const onAbort = (): void => finish(() => reject(options.signal?.reason));
    const launch = (): void => {
      clearTimeout(timer);
      if (done || next >= candidates.length) return;
      const candidate = candidates[next]!;
      next += 1;
      running += 1;
      const abort = new AbortController();
      aborts.push(abort);
      if (next < candidates.length) timer = setTimeout(launch, boundedMs(options.hedgeAfterMs));
      // NOTE: in an async function, so that an ask that throws at once fails like any other.
      (async () => await ask(candidate, abort.signal))().then(
        (value) => finish(() => resolve(value), abort),
        (error: unknown) => {
          running -= 1;
          if (done) return;
          if (isBug(error)) finish(() => reject(error));
          else if (options.isFinal?.(error) === true || (running === 0 && next >= candidates.length))
            finish(() => reject(error));
          else if (next < candidates.length) launch();
        },
      );
    };
    if (options.signal?.aborted === true) return reject(options.signal.reason);
    options.signal?.addEventListener('abort', onAbort, { once: true });
    launch();
  });
}

function reasonOfEnd(winner: AbortController | undefined, signal: AbortSignal | undefined): unknown {
  if (winner !== undefined) return new CodedError('TIMEOUT', { message: 'another member was faster' });
  return signal?.aborted === true
    ? signal.reason
    : new CodedError('TIMEOUT', { message: 'the answer is known' });
}
