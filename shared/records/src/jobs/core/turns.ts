import { CLOCKS_APART_MS, HOLD_MS, MAX_JOB_WAIT_MS } from '../../deadlines.ts';
import type { OwnerOf } from './fair-share.ts';
import type { Job } from './job.ts';

/** An owner with jobs whose time has come. */
interface Owner<T> {
  /** The oldest first. */
  readonly due: Job<T>[];
  /** Its jobs that somebody holds. */
  running: number;
  /** When one of its jobs was last taken; -1 where none on record was. */
  takenAtMs: number;
}

/** True if a job may be taken: its time has come, or its holder went away. What a wrong clock noted holds nothing. */
export function isDue<T>(job: Job<T>, nowMs: number): boolean {
  const { state, tries, notBeforeMs, heldUntilMs = 0 } = job;
  if (state === 'waiting') return !isAhead(notBeforeMs, nowMs, tries === 0 ? 0 : MAX_JOB_WAIT_MS);
  return state === 'running' && !isAhead(heldUntilMs, nowMs, HOLD_MS);
}

/** True of a time to come that was set at most `mostMs` ahead. */
function isAhead(atMs: number, nowMs: number, mostMs: number): boolean {
  return atMs > nowMs && atMs - nowMs <= mostMs + CLOCKS_APART_MS;
}

/**
 * Whose turn it is: at most `limit` of the jobs that are due. First comes the owner of whose jobs fewest run, then who was
 * served longest ago, then the oldest job. So many jobs of one owner hold up each other, not those of others.
 * @param jobs all that are on record, also what runs and what has ended
 */
export function inTurn<T>(
  jobs: readonly Job<T>[],
  nowMs: number,
  limit: number,
  ownerOf: OwnerOf = () => '',
): readonly Job<T>[] {
  const owners = ownersOf(jobs, nowMs, ownerOf);
  const chosen: Job<T>[] = [];
  while (chosen.length < limit) {
    let next: Owner<T> | undefined;
    for (const owner of owners)
      if (owner.due.length > 0 && (next === undefined || compare(owner, next) < 0)) next = owner;
    if (next === undefined) break;
    chosen.push(next.due.shift()!);
    next.running += 1;
    next.takenAtMs = nowMs;
  }
  return chosen;
}

function ownersOf<T>(jobs: readonly Job<T>[], nowMs: number, ownerOf: OwnerOf): readonly Owner<T>[] {
  const owners = new Map<string, Owner<T>>();
  for (const job of jobs.toSorted((one, other) => one.addedAtMs - other.addedAtMs)) {
    const name = ownerOf(job.key);
    const owner = owners.get(name) ?? { due: [], running: 0, takenAtMs: -1 };
    owners.set(name, owner);
    owner.takenAtMs = Math.max(owner.takenAtMs, job.takenAtMs ?? -1);
    if (isDue(job, nowMs)) owner.due.push(job);
    else if (job.state === 'running') owner.running += 1;
  }
  return [...owners.values()];
}

/** Below 0 if `one` comes before `other`; both have jobs that are due. */
function compare<T>(one: Owner<T>, other: Owner<T>): number {
  return (
    one.running - other.running ||
    one.takenAtMs - other.takenAtMs ||
    one.due[0]!.addedAtMs - other.due[0]!.addedAtMs
  );
}
