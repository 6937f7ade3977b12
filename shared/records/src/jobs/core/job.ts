/**
 * `dead`: it failed as often as it may, and waits for somebody who begins it anew. The last three are over.
 */
export type JobState = 'waiting' | 'running' | 'done' | 'dead' | 'cancelled';

/** A job as it stands on record. What is in `payload`, `progress` and `result` is the caller's; all are JSON. */
export interface Job<T> {
  readonly id: string;
  /** What the job is about: of one key at most one job is open. */
  readonly key: string;
  readonly payload: T;
  readonly state: JobState;
  readonly addedAtMs: number;
  /** A waiting job is not taken before this. */
  readonly notBeforeMs: number;
  /** Failures so far. */
  readonly tries: number;
  /** Holders that went away while they held it, since it was put in or begun anew. */
  readonly losses?: number;
  readonly holder?: string;
  readonly heldUntilMs?: number;
  /** When it was last taken; stays when it ends. */
  readonly takenAtMs?: number;
  /** A newer payload that came while the job ran: it runs again with that one. */
  readonly next?: T;
  readonly progress?: unknown;
  readonly result?: unknown;
  readonly error?: string;
  readonly endedAtMs?: number;
}

/** The value of one register: jobs in the order in which they came. */
export interface JobLane<T> {
  readonly jobs: readonly Job<T>[];
}

/** Orders jobs that ended: the one that ended longest ago first, and before it one of which nobody knows when. */
export function byEnd(one: Job<unknown>, other: Job<unknown>): number {
  return (one.endedAtMs ?? 0) - (other.endedAtMs ?? 0);
}

/** True for a job that waits or runs; the others have ended. */
export function isOpen(job: { readonly state: JobState }): boolean {
  return job.state === 'waiting' || job.state === 'running';
}
