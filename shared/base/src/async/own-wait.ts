import { setImmediate } from 'node:timers/promises';
import { boundedMs } from '../bounded-ms.ts';
import { OwnTime } from '../event-loop/core/own-time.ts';
import { pause } from '../lifecycle.ts';
import { OVER } from './over.ts';

/**
 * As `pause`, for a wait that ends with a verdict about somebody else: while this process was late, it does not count
 * ({@link OwnTime}), and what has come by then is looked at first. True if the whole time passed. Never rejects.
 */
export async function ownPause(ms: number, signal: AbortSignal): Promise<boolean> {
  const time = new OwnTime(boundedMs(ms), performance.now());
  for (let dueMs = time.look(performance.now()); dueMs > 0; dueMs = time.look(performance.now()))
    if (!(await pause(dueMs, signal))) return false;
  await setImmediate();
  return !signal.aborted;
}

/** Calls `giveUp` after an {@link ownPause} of `ms`, unless what is returned is called before. */
export function afterOwnMs(ms: number, giveUp: () => void): () => void {
  const over = new AbortController();
  void ownPause(ms, over.signal).then((isLate) => {
    if (isLate) giveUp();
  });
  return () => over.abort(OVER);
}
