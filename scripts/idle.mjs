// Whether the machine has CPU to spare. Plain JS: it must run under Node 20.
import { availableParallelism, cpus } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';

/** So long it is looked at, in ms: what started just before has then shown what it takes. */
const LOOK_MS = 3_000;
/** So many cores must have had nothing to do; one whose work waits for a disk has. */
const IDLE_CORES = 0.5;

/** Whether what the system says of its cores is said of ours: not where we may use a part of them. */
export const knowsIdle = () => cpus().length === availableParallelism();

/** Resolves once half a core was idle for a while, or `isOver`. */
export async function untilIdle(isOver) {
  for (let before = look(); !isOver(); ) {
    await delay(LOOK_MS);
    const now = look();
    if ((now.idleMs - before.idleMs) / (now.atMs - before.atMs) >= IDLE_CORES) return;
    before = now;
  }
}

function look() {
  const idleMs = cpus().reduce((sum, { times }) => sum + times.idle, 0);
  return { idleMs, atMs: performance.now() };
}
