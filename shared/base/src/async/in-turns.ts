import { setImmediate } from 'node:timers/promises';

/** Parts of a long list, at most `size` each, in order; between two of them everything else that waits has its turn. */
export async function* inTurns<T>(list: readonly T[], size: number): AsyncGenerator<T[], void, void> {
  for (let at = 0; at < list.length; at += size) {
    if (at > 0) await setImmediate();
    yield list.slice(at, at + size);
  }
}
