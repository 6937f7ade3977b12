import { OVER } from '@sepia/base/async/over';
import { readElsewhere } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';

/**
 * What `ask` brings, or, where that takes longer than `ms`, what there is `instead`, if anything. The signal is aborted once nobody
 * waits for `ask` any more.
 */
export async function unlessLate<T>(
  ask: (over: AbortSignal) => Promise<T>,
  ms: number,
  instead: () => Promise<T | undefined>,
): Promise<T> {
  const over = new AbortController();
  const asked = ask(over.signal);
  readElsewhere(asked);
  const late = async (): Promise<T> => {
    const isLate = await pause(ms, over.signal);
    return (isLate ? await instead() : undefined) ?? (await asked);
  };
  try {
    return await Promise.race([asked, late()]);
  } finally {
    over.abort(OVER);
  }
}
