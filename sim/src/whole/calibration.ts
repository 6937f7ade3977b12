import type { SimulateOptions } from './simulate.ts';

/**
 * What a run with real costs adds, taken from the bench (`docs/numbers.md`): a member's one thread as in N17 and the wire alone
 * (receiving, checking and handing on a MiB, and sending one), a tracker's call as in `tracker-load` (a core answers about 2,300
 * calls a second), containers of a rollout that start within half a second, and one node in a hundred whose line gives a fifth less.
 */
export const CALIBRATED = Object.freeze({
  cpu: Object.freeze({ receiveMs: 2.4, sendMs: 0.5 }),
  callMs: 0.43,
  startMs: 500,
  slow: Object.freeze({ share: 0.01, rate: 0.8 }),
  /** From dial to a proven wire, beyond the way there. */
  dialMs: 3,
});

/** The same run with those costs; `trackers`: how many share the blobs. */
export function calibrated(options: SimulateOptions, trackers: number): SimulateOptions {
  const { cpu, callMs, startMs, slow, dialMs } = CALIBRATED;
  return { ...options, cpu, startMs, slow, dialMs, trackers: { count: trackers, callMs } };
}
