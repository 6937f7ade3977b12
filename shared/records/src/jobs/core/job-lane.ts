import { backoffMs } from '@sepia/base/async/backoff';
import { CodedError } from '@sepia/base/errors';
import { canonicalJson } from '../../core/join.ts';
import { HOLD_MS } from '../../deadlines.ts';
import { hasNoPlace, type OwnerOf } from './fair-share.ts';
import { byEnd, isOpen, type Job, type JobLane, type JobState } from './job.ts';
import { isRoomFor } from './lane-room.ts';
import { isDue } from './turns.ts';

/** Jobs that one lane holds before they end; more are refused. */
export const MAX_OPEN = 200;
/** Jobs that ended and are still shown; the oldest go first. */
const MAX_ENDED = 100;
/** Holders that may go away with one job: then it is dead, for it may be what ends them (as one that takes too much memory). */
export const MAX_LOSSES = 8;

/** When a job that failed is tried again, in ms, the pause doubling from the first to the longest, and how often. */
export interface RetryRules {
  readonly firstMs: number;
  /** At most `MAX_JOB_WAIT_MS`. */
  readonly maxMs: number;
  /** Failures after which a job is dead. */
  readonly tries: number;
}

/** Whether what a key is about needs no new job, by the jobs on record. */
export type IsSettled<T> = (jobs: readonly Job<T>[]) => boolean;

const EMPTY: JobLane<never> = { jobs: [] };

/**
 * Takes a job in. Of a key that is open already the newest payload wins: a waiting job gets it, a running one runs again
 * with it. One that is settled is not put in. Of one owner it takes as many as {@link hasNoPlace} allows. @returns the id of the job that now stands for the key
 * @throws {CodedError} `OVERLOADED`
 */
export function addJob<T>(
  lane: JobLane<T> = EMPTY,
  added: { readonly id: string; readonly key: string; readonly payload: T },
  nowMs: number,
  {
    ownerOf,
    isSettled,
  }: { readonly ownerOf?: OwnerOf | undefined; readonly isSettled?: IsSettled<T> | undefined } = {},
): { readonly lane: JobLane<T>; readonly id: string; readonly isNew: boolean } {
  const before = lane.jobs.find((job) => job.key === added.key && isOpen(job));
  if (before !== undefined) {
    // A register gives fields in another order than they were put in.
    const isSame = canonicalJson(before.next ?? before.payload) === canonicalJson(added.payload);
    if (isSame) return { lane, id: before.id, isNew: false };
    const newer: Job<T> =
      before.state === 'running'
        ? { ...before, next: added.payload }
        : { ...before, payload: added.payload, tries: 0, losses: 0, notBeforeMs: nowMs };
    return { lane: withRoom(replace(lane, newer)), id: before.id, isNew: false };
  }
  const last = lane.jobs.findLast((job) => job.key === added.key);
  if (last !== undefined && isSettled?.(lane.jobs) === true) return { lane, id: last.id, isNew: false };
  const open = lane.jobs.filter(isOpen);
  const owner = ownerOf?.(added.key);
  const owners = open.map(({ key }) => ownerOf?.(key));
  const isFull = open.length >= MAX_OPEN;
  if (isFull || hasNoPlace(MAX_OPEN, owners, owner)) {
    const whose = isFull ? '' : ` of ${owner}`;
    throw new CodedError('OVERLOADED', { message: `too many jobs${whose} wait; try again later` });
  }
  const job: Job<T> = { ...added, state: 'waiting', addedAtMs: nowMs, notBeforeMs: nowMs, tries: 0 };
  return { lane: withRoom(swept({ jobs: [...lane.jobs, job] })), id: job.id, isNew: true };
}

/** @throws {CodedError} `OVERLOADED` where the open jobs need more than a register can hold, as with very long names */
function withRoom<T>(lane: JobLane<T>): JobLane<T> {
  if (isRoomFor(lane)) return lane;
  throw new CodedError('OVERLOADED', { message: 'too many jobs wait; try again later' });
}

/**
 * Gives jobs whose time has come, and those whose holder went away, to `holder`; at most `limit`, the oldest first. A job
 * that {@link MAX_LOSSES} holders went away with is dead instead, unless a newer payload waits.
 * @param ids jobs whose turn it is; left out: all
 */
export function takeJobs<T>(
  lane: JobLane<T> = EMPTY,
  holder: string,
  nowMs: number,
  limit: number,
  ids?: ReadonlySet<string>,
): { readonly lane: JobLane<T>; readonly taken: readonly Job<T>[] } {
  const taken: Job<T>[] = [];
  let next = lane;
  for (const due of lane.jobs) {
    if (taken.length >= limit || !isDue(due, nowMs) || ids?.has(due.id) === false) continue;
    const losses = (due.losses ?? 0) + (due.state === 'running' ? 1 : 0);
    if (losses >= MAX_LOSSES && due.next === undefined) {
      const error = `${losses} workers went away while they held this job; it may be what ends them`;
      next = ended(next, { ...due, losses, error }, 'dead', nowMs);
      continue;
    }
    const { progress: _progress, losses: _losses, ...rest } = due;
    const counted = losses === 0 ? rest : { ...rest, losses };
    const hold = { holder, heldUntilMs: nowMs + HOLD_MS, takenAtMs: nowMs };
    const held: Job<T> = { ...counted, ...hold, state: 'running' };
    taken.push(held);
    next = replace(next, held);
  }
  return { lane: next, taken };
}

/** Goes on holding a job. `isHeld` is false if it was cancelled, ended, or another has it: the holder must stop. */
export function renewJob<T>(
  lane: JobLane<T> = EMPTY,
  id: string,
  holder: string,
  nowMs: number,
  progress?: unknown,
): { readonly lane: JobLane<T>; readonly isHeld: boolean } {
  const job = heldBy(lane, id, holder);
  if (job === undefined) return { lane, isHeld: false };
  const renewed = { ...job, heldUntilMs: nowMs + HOLD_MS, ...(progress === undefined ? {} : { progress }) };
  return { lane: replace(lane, renewed), isHeld: true };
}

/** The job is done, unless a newer payload waits: then it runs again. Nothing changes for who does not hold it. */
export function finishJob<T>(
  lane: JobLane<T> = EMPTY,
  id: string,
  holder: string,
  nowMs: number,
  result: unknown,
): JobLane<T> {
  const job = heldBy(lane, id, holder);
  if (job === undefined) return lane;
  const { error: _error, ...rest } = job;
  return job.next === undefined
    ? ended(lane, { ...rest, result }, 'done', nowMs)
    : again(lane, job, job.next, nowMs);
}

/** The job waits longer after each failure, or is dead. `isFinal`: no try can mend it. `chance`: 0 ≤ chance < 1. */
export function failJob<T>(
  lane: JobLane<T> = EMPTY,
  id: string,
  holder: string,
  nowMs: number,
  failure: {
    readonly error: string;
    readonly isFinal: boolean;
    readonly chance: number;
    readonly rules: RetryRules;
  },
): JobLane<T> {
  const job = heldBy(lane, id, holder);
  if (job === undefined) return lane;
  if (job.next !== undefined) return again(lane, job, job.next, nowMs);
  const { error, isFinal, chance, rules } = failure;
  const tries = job.tries + 1;
  const failed: Job<T> = { ...job, tries, error };
  if (isFinal || tries >= rules.tries) return ended(lane, failed, 'dead', nowMs);
  const waitMs = backoffMs(tries, rules.firstMs, rules.maxMs);
  return replace(lane, {
    ...letGo(failed),
    state: 'waiting',
    notBeforeMs: nowMs + Math.round(waitMs * (0.5 + chance / 2)),
  });
}

/** A holder that stops gives the job back at once: no failure. It waits with the newer payload, if one came. */
export function releaseJob<T>(
  lane: JobLane<T> = EMPTY,
  id: string,
  holder: string,
  nowMs: number,
): JobLane<T> {
  const job = heldBy(lane, id, holder);
  if (job === undefined) return lane;
  if (job.next !== undefined) return again(lane, job, job.next, nowMs);
  return replace(lane, { ...letGo(job), state: 'waiting', notBeforeMs: nowMs });
}

/** Ends an open job; one that is cancelled stays so. @throws {CodedError} `JOB_UNKNOWN`, `JOB_ENDED` if it ended otherwise */
export function cancelJob<T>(lane: JobLane<T> = EMPTY, id: string, nowMs: number): JobLane<T> {
  const job = known(lane, id);
  if (isOpen(job)) return ended(lane, job, 'cancelled', nowMs);
  if (job.state === 'cancelled') return lane;
  throw new CodedError('JOB_ENDED', { message: `the job ${id} has ended already: it is ${job.state}` });
}

/** Runs an ended job again, a waiting one at once. @throws {CodedError} `JOB_UNKNOWN`, `JOB_REPLACED` if a newer job of its key is open, `OVERLOADED` */
export function retryJob<T>(lane: JobLane<T> = EMPTY, id: string, nowMs: number): JobLane<T> {
  const job = known(lane, id);
  if (job.state === 'running') return lane;
  if (lane.jobs.some((other) => other.id !== id && other.key === job.key && isOpen(other)))
    throw new CodedError('JOB_REPLACED', {
      message: `a newer job is about the same as ${id}; it runs instead`,
    });
  const { endedAtMs: _ended, result: _result, losses: _losses, ...rest } = job;
  return withRoom(replace(lane, { ...rest, state: 'waiting', tries: 0, notBeforeMs: nowMs }));
}

function heldBy<T>(lane: JobLane<T>, id: string, holder: string): Job<T> | undefined {
  return lane.jobs.find((job) => job.id === id && job.state === 'running' && job.holder === holder);
}

function known<T>(lane: JobLane<T>, id: string): Job<T> {
  const job = lane.jobs.find((one) => one.id === id);
  if (job === undefined)
    throw new CodedError('JOB_UNKNOWN', { message: `no job ${id.slice(0, 80)} is known` });
  return job;
}

/** The job waits anew, with the newer payload that came for it. */
function again<T>(lane: JobLane<T>, job: Job<T>, payload: T, nowMs: number): JobLane<T> {
  const { next: _next, error: _error, losses: _losses, ...rest } = job;
  return replace(lane, { ...letGo(rest as Job<T>), payload, state: 'waiting', tries: 0, notBeforeMs: nowMs });
}

function ended<T>(lane: JobLane<T>, job: Job<T>, state: JobState, nowMs: number): JobLane<T> {
  const { next: _next, progress: _progress, ...rest } = letGo(job);
  return swept(replace(lane, { ...(rest as Job<T>), state, endedAtMs: nowMs }));
}

function letGo<T>(job: Job<T>): Job<T> {
  const { holder: _holder, heldUntilMs: _until, ...rest } = job;
  return rest;
}

function replace<T>(lane: JobLane<T>, job: Job<T>): JobLane<T> {
  return { jobs: lane.jobs.map((one) => (one.id === job.id ? job : one)) };
}

/** Without the oldest of the jobs that ended, where there are too many. */
function swept<T>(lane: JobLane<T>): JobLane<T> {
  const over = lane.jobs.filter((job) => !isOpen(job)).length - MAX_ENDED;
  if (over <= 0) return lane;
  const oldest = lane.jobs
    .filter((job) => !isOpen(job))
    .toSorted(byEnd)
    .slice(0, over);
  return { jobs: lane.jobs.filter((job) => !oldest.includes(job)) };
}
