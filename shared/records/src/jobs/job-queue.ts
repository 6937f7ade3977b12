import { createHash } from 'node:crypto';
import { throwIfBug } from '@sepia/base/failure';
import type { OwnerOf } from './core/fair-share.ts';
import type { Job, JobLane } from './core/job.ts';
import {
  addJob,
  cancelJob,
  failJob,
  finishJob,
  type IsSettled,
  type RetryRules,
  releaseJob,
  renewJob,
  retryJob,
  takeJobs,
} from './core/job-lane.ts';
import { fitted } from './core/lane-room.ts';
import { inTurn, isDue } from './core/turns.ts';

/** Registers of which each change is agreed by a quorum of origins, one after the other. */
export interface Registers {
  /** A quorum read. @throws `QUORUM_LOST`, `CONFLICT` */
  read<T>(key: string): Promise<T | undefined>;
  /** Replaces a value by what `change` makes of it; `change` may run again. @throws `QUORUM_LOST`, `CONFLICT`, what `change` throws */
  change<T>(key: string, change: (current: T | undefined) => T | undefined): Promise<T | undefined>;
}

interface JobQueueDeps {
  readonly registers: Registers;
  readonly nowMs: () => number;
  /** A number from 0 up to 1. */
  readonly chance: () => number;
}

interface JobQueueOptions {
  /** Names the queue's registers: `jobs NAME N`. */
  readonly name: string;
  readonly retry: RetryRules;
  /** Whose a job is: nobody takes all places, nor all turns. Default: they are for whoever comes first. */
  readonly ownerOf?: OwnerOf;
}

/** Registers that the jobs of one queue are spread over, by their key. */
const LANES = 8;
/** Looks of one {@link JobQueue.take}: others may have taken what this one wanted. */
const MAX_LOOKS = 4;

/**
 * A queue of jobs on a quorum of origins: what it took is carried out whoever dies, by one holder at a time (two, where
 * one was cut off for longer than its hold: work must be repeatable). Stateless: any number may work on the same records.
 */
export class JobQueue<T> {
  readonly #deps: JobQueueDeps;
  readonly #options: JobQueueOptions;

  constructor(deps: JobQueueDeps, options: JobQueueOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  /**
   * Resolves when the job is on a quorum, or is not needed. @param isSettled asked of the jobs that are on record when none of
   * the key is open: true, and the last of them stands for it @throws `OVERLOADED`, `QUORUM_LOST`, `CONFLICT`
   */
  async add(
    key: string,
    payload: T,
    isSettled?: IsSettled<T>,
  ): Promise<{ readonly id: string; readonly isNew: boolean }> {
    const lane = laneOf(key);
    const id = `${lane}-${this.#deps.nowMs().toString(36)}-${hash(`${key}\n${this.#deps.chance()}`).slice(0, 8)}`;
    let added: { readonly id: string; readonly isNew: boolean } = { id, isNew: true };
    await this.#change(lane, (jobs) => {
      const { lane: next, ...rest } = addJob(jobs, { id, key, payload }, this.#deps.nowMs(), {
        ownerOf: this.#options.ownerOf,
        isSettled,
      });
      added = rest;
      return next;
    });
    return added;
  }

  /**
   * Gives up to `limit` due jobs to `holder`, to each owner in its turn (see {@link inTurn}). Lanes have owners of their own: one
   * that cannot be read, or changed, holds the others up only where none can. `may`: what the holder can do; the rest waits for
   * another. @throws `QUORUM_LOST`, `CONFLICT` if nothing was taken
   */
  async take(holder: string, limit: number, may: (payload: T) => boolean = () => true): Promise<Job<T>[]> {
    const { nowMs } = this.#deps;
    const taken: Job<T>[] = [];
    for (let look = 0; look < MAX_LOOKS && taken.length < limit; look += 1) {
      const jobs = await this.#readable();
      const known = jobs.filter((job) => !isDue(job, nowMs()) || may(job.payload));
      const turns = inTurn(known, nowMs(), limit - taken.length, this.#options.ownerOf);
      if (turns.length === 0) break;
      for (const lane of new Set(turns.map(({ id }) => laneOfId(id)))) {
        const ids = new Set(turns.filter(({ id }) => laneOfId(id) === lane).map(({ id }) => id));
        let found: readonly Job<T>[] = [];
        try {
          await this.#change(lane, (jobs) => {
            const next = takeJobs(jobs, holder, nowMs(), ids.size, ids);
            found = next.taken;
            return next.lane;
          });
        } catch (error) {
          throwIfBug(error);
          // What was taken before must be worked on by whoever took it.
          if (taken.length === 0) throw error;
          return taken;
        }
        taken.push(...found);
      }
    }
    return taken;
  }

  /** @returns false if the holder must stop @throws `QUORUM_LOST`, `CONFLICT` */
  async renew(id: string, holder: string, progress?: unknown): Promise<boolean> {
    let isHeld = false;
    await this.#change(laneOfId(id), (jobs) => {
      const next = renewJob(jobs, id, holder, this.#deps.nowMs(), progress);
      isHeld = next.isHeld;
      return next.lane;
    });
    return isHeld;
  }

  async finish(id: string, holder: string, result: unknown): Promise<void> {
    await this.#change(laneOfId(id), (jobs) => finishJob(jobs, id, holder, this.#deps.nowMs(), result));
  }

  async fail(id: string, holder: string, error: string, isFinal: boolean): Promise<void> {
    const { nowMs, chance } = this.#deps;
    const failure = { error, isFinal, chance: chance(), rules: this.#options.retry };
    await this.#change(laneOfId(id), (jobs) => failJob(jobs, id, holder, nowMs(), failure));
  }

  async release(id: string, holder: string): Promise<void> {
    await this.#change(laneOfId(id), (jobs) => releaseJob(jobs, id, holder, this.#deps.nowMs()));
  }

  /** @throws `JOB_UNKNOWN`, `JOB_ENDED`, `QUORUM_LOST`, `CONFLICT` */
  async cancel(id: string): Promise<void> {
    await this.#change(laneOfId(id), (jobs) => cancelJob(jobs, id, this.#deps.nowMs()));
  }

  /** @throws `JOB_UNKNOWN`, `JOB_REPLACED`, `OVERLOADED`, `QUORUM_LOST`, `CONFLICT` */
  async retry(id: string): Promise<void> {
    await this.#change(laneOfId(id), (jobs) => retryJob(jobs, id, this.#deps.nowMs()));
  }

  /** All jobs on record, the newest first. */
  async list(): Promise<Job<T>[]> {
    return jobsOf(await Promise.all(this.#reads()));
  }

  /** Jobs of the lanes that can be read. @throws what the first read threw, if none can */
  async #readable(): Promise<Job<T>[]> {
    const lanes: (JobLane<T> | undefined)[] = [];
    const failures: unknown[] = [];
    for (const read of await Promise.allSettled(this.#reads()))
      if (read.status === 'fulfilled') lanes.push(read.value);
      else failures.push(read.reason);
    for (const failure of failures) throwIfBug(failure);
    if (lanes.length === 0) throw failures[0];
    return jobsOf(lanes);
  }

  #reads(): Promise<JobLane<T> | undefined>[] {
    return Array.from({ length: LANES }, (_, lane) =>
      this.#deps.registers.read<JobLane<T>>(this.#register(lane)),
    );
  }

  async #change(
    lane: number,
    change: (jobs: JobLane<T> | undefined) => JobLane<T> | undefined,
  ): Promise<void> {
    await this.#deps.registers.change<JobLane<T>>(this.#register(lane), (jobs) => {
      const next = change(jobs);
      return next === jobs || next === undefined ? next : fitted(next);
    });
  }

  #register(lane: number): string {
    return `jobs\0${this.#options.name}\0${lane}`;
  }
}

function laneOf(key: string): number {
  return Number.parseInt(hash(key).slice(0, 8), 16) % LANES;
}

/** Ids begin with their lane; any other text is in lane 0, which does not know it. */
function laneOfId(id: string): number {
  const lane = Number(/^(\d)-/.exec(id)?.[1] ?? 0);
  return lane < LANES ? lane : 0;
}

function hash(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** The newest first. */
function jobsOf<T>(lanes: readonly (JobLane<T> | undefined)[]): Job<T>[] {
  return lanes.flatMap((lane) => lane?.jobs ?? []).sort((one, other) => other.addedAtMs - one.addedAtMs);
}
