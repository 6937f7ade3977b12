import { byEnd, isOpen, type Job, type JobLane } from './job.ts';

/** A register takes 256 KiB with all that stands around its value (`POST /v1/register`): a longer lane could not change any more. */
export const MAX_LANE_BYTES = 224 * 1024;
/** What open jobs may need when one is put in; the rest is for what is noted while they run, and for those that ended. */
const MAX_OPEN_BYTES = 128 * 1024;
/** Longest result that is kept. */
const MAX_RESULT_BYTES = 16 * 1024;
const MAX_ERROR_CHARS = 1_000;

/** True if open jobs need less than {@link MAX_OPEN_BYTES}, not counting what can be left out. */
export function isRoomFor<T>(lane: JobLane<T>): boolean {
  return bytesOf(lane.jobs.filter(isOpen).map(withoutNotes)) <= MAX_OPEN_BYTES;
}

/**
 * A lane that fits into its register. What is too long for one job is cut; then the jobs that ended longest ago go, and only
 * then what open jobs have noted of themselves. An open job never goes.
 */
export function fitted<T>(lane: JobLane<T>): JobLane<T> {
  const jobs = lane.jobs.map(cut);
  let over = bytesOf(jobs) - MAX_LANE_BYTES;
  const ended = jobs.filter((job) => !isOpen(job)).sort(byEnd);
  const gone = new Set<Job<T>>();
  for (const job of ended) {
    if (over <= 0) break;
    over -= bytesOf(job) + 1;
    gone.add(job);
  }
  const kept = jobs.filter((job) => !gone.has(job));
  return { jobs: over <= 0 ? kept : kept.map(withoutNotes) };
}

function cut<T>(job: Job<T>): Job<T> {
  const { result, ...rest } = job;
  const short =
    job.error === undefined || job.error.length <= MAX_ERROR_CHARS
      ? rest
      : { ...rest, error: `${job.error.slice(0, MAX_ERROR_CHARS)}…` };
  if (result === undefined) return short;
  if (bytesOf(result) <= MAX_RESULT_BYTES) return { ...short, result };
  return { ...short, error: 'what became of it is too long to be kept' };
}

function withoutNotes<T>(job: Job<T>): Job<T> {
  const { progress: _progress, error: _error, ...rest } = job;
  return rest;
}

function bytesOf(value: unknown): number {
  return Buffer.byteLength(JSON.stringify(value));
}
