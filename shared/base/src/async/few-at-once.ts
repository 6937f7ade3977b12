import { LinkedAbort } from './linked-abort.ts';

/**
 * Works through a list in its order, at most `limit` at a time; resolves when all is done. The first failure aborts
 * what runs, and nothing more is begun.
 * @throws that failure, or the reason of `signal`, when nothing runs any more
 */
export async function fewAtOnce<T>(
  list: Iterable<T>,
  limit: number,
  work: (one: T, signal: AbortSignal) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const abort = new LinkedAbort(...(signal === undefined ? [] : [signal]));
  const failures: unknown[] = [];
  const next = list[Symbol.iterator]();
  const lane = async (): Promise<void> => {
    try {
      for (let step = next.next(); step.done !== true; step = next.next()) {
        abort.signal.throwIfAborted();
        await work(step.value, abort.signal);
      }
    } catch (error) {
      failures.push(error);
      abort.abort(error);
      throw error;
    }
  };
  const lanes = Array.from({ length: limit }, lane);
  await Promise.allSettled(lanes);
  abort.unlink();
  if (failures.length > 0) throw failures[0];
}
