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
  const failed = new AbortController();
  const either = signal === undefined ? failed.signal : AbortSignal.any([signal, failed.signal]);
  const next = list[Symbol.iterator]();
  const lane = async (): Promise<void> => {
    try {
      for (let step = next.next(); step.done !== true; step = next.next()) {
        either.throwIfAborted();
        await work(step.value, either);
      }
    } catch (error) {
      failed.abort(error);
      throw error;
    }
  };
  const lanes = Array.from({ length: limit }, lane);
  await Promise.allSettled(lanes);
  if (failed.signal.aborted) throw failed.signal.reason;
}
