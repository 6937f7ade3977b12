import { boundedMs } from '@sepia/base/bounded-ms';
import { readElsewhere } from '@sepia/base/failure';

/**
 * What `work` comes to, within `ms` and while `signal` is not aborted: for calls that cannot be ended themselves (system
 * calls on a mount that hangs, foreign code). They go on behind; nobody waits for them.
 * @throws what `work` fails with, the signal's reason, what `late` makes
 */
export async function inTime<T>(
  work: Promise<T>,
  ms: number,
  signal: AbortSignal,
  late: () => Error,
): Promise<T> {
  readElsewhere(work);
  const over = Promise.withResolvers<never>();
  const onAbort = (): void => over.reject(signal.reason);
  const timer = setTimeout(() => over.reject(late()), boundedMs(ms));
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    return await Promise.race([work, over.promise]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', onAbort);
  }
}
