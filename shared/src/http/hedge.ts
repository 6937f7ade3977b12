import { CodedError } from '../errors.ts';

interface HedgeOptions {
  /** The next candidate is asked beside the running ones after this silence, in ms. */
  readonly hedgeAfterMs: number;
  readonly signal?: AbortSignal;
  /** True for an answer that no other candidate can better (a definite "no"): it is thrown at once. */
  readonly isFinal?: (error: unknown) => boolean;
}

/**
 * Asks candidates in order until one answers: the next is asked when one fails or is silent for
 * `hedgeAfterMs`. The first success wins; the others are aborted. When all fail, the last error is thrown.
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
    const onAbort = (): void => finish(() => reject(options.signal?.reason));
    const finish = (settle: () => void): void => {
      if (done) return;
      done = true;
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', onAbort);
      settle();
    };
    const launch = (): void => {
      clearTimeout(timer);
      if (done || next >= candidates.length) return;
      const candidate = candidates[next]!;
      next += 1;
      running += 1;
      const abort = new AbortController();
      aborts.push(abort);
      if (next < candidates.length) timer = setTimeout(launch, options.hedgeAfterMs);
      ask(candidate, abort.signal).then(
        (value) => {
          finish(() => resolve(value));
          for (const other of aborts)
            if (other !== abort)
              other.abort(new CodedError('TIMEOUT', { message: 'another member was faster' }));
        },
        (error: unknown) => {
          running -= 1;
          if (done) return;
          if (options.isFinal?.(error) === true || (running === 0 && next >= candidates.length))
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
