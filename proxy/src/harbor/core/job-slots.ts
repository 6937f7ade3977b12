import { CodedError } from '@sepia/base/errors';
import { CLOCKS_APART_MS, JOB_FORGOTTEN_MS, JOB_HOLD_MS, JOB_KEPT_MS } from '../../deadlines.ts';
import type { Scope } from './messages.ts';

/** Registers that jobs take in turn: the space that they need is bounded. */
export const JOB_SLOTS = 4_096;
/** Random numbers below this and a random slot make an id of 53 bits: nobody finds a job by trying. */
export const JOB_SERIALS = 2 ** 41;
/** Rows of a job that are kept and told, and their bytes: registers and answers have limits. */
const MAX_ROWS = 500;
const MAX_ROWS_BYTES = 192 * 1024;
/** So often a job is begun anew after its proxy went away. */
const MAX_RUNS = 3;

/** What became of a preheat at one origin or node, as its job tells. */
export interface JobRow {
  readonly id: string;
  readonly role: 'origin' | 'agent';
  readonly ip: string;
  readonly state: 'pending' | 'running' | 'done' | 'failed';
  readonly description?: string | undefined;
  readonly doneBytes?: number | undefined;
  readonly totalBytes?: number | undefined;
}

/** What the origins keep of a job. The client's token is not in it. */
export interface JobRecord {
  readonly id: number;
  readonly state: 'PENDING' | 'SUCCESS' | 'FAILURE';
  readonly url: string;
  readonly upstream: string;
  readonly repository: string;
  /** Tag or digest. */
  readonly reference: string;
  readonly scope: Scope;
  /** The first run had a token that later ones lack. */
  readonly hadToken: boolean;
  readonly createdAtMs: number;
  readonly updatedAtMs: number;
  /** Proxy process that runs it. */
  readonly holder: string;
  readonly heldAtMs: number;
  readonly runs: number;
  readonly error?: string;
  readonly rows: readonly JobRow[];
  /** Rows that did not fit. */
  readonly moreRows: number;
}

/** What a job is asked to do; state and rows come as it runs. */
export type NewJob = Pick<
  JobRecord,
  'url' | 'upstream' | 'repository' | 'reference' | 'scope' | 'hadToken' | 'holder'
>;

/** The slot that an id of a preheat job lies in. */
export function slotOf(id: number): number {
  return id % JOB_SLOTS;
}

/** `undefined → PENDING`, `ended and old → PENDING`: takes a slot for a new job; undefined if it is in use. `serial` is random. */
export function claimSlot(
  current: JobRecord | undefined,
  { slot, serial }: { readonly slot: number; readonly serial: number },
  job: NewJob,
  nowMs: number,
): JobRecord | undefined {
  if (current !== undefined) {
    const age = nowMs - current.updatedAtMs;
    if (age < (current.state === 'PENDING' ? JOB_FORGOTTEN_MS : JOB_KEPT_MS)) return undefined;
  }
  return {
    ...job,
    id: serial * JOB_SLOTS + slot,
    state: 'PENDING',
    createdAtMs: nowMs,
    updatedAtMs: nowMs,
    heldAtMs: nowMs,
    runs: 1,
    rows: [],
    moreRows: 0,
  };
}

/** `PENDING → PENDING`: its runner is still there. @throws `CONFLICT` when the job ended or another proxy runs it */
export function renewHold(
  current: JobRecord | undefined,
  id: number,
  holder: string,
  nowMs: number,
): JobRecord {
  return { ...held(current, id, holder), heldAtMs: nowMs };
}

/** `PENDING → PENDING`: gives the job up, so that the next proxy that is asked takes it. */
export function dropHold(current: JobRecord | undefined, id: number, holder: string): JobRecord {
  return { ...held(current, id, holder), heldAtMs: 0 };
}

/** True when a job waits and nobody runs it, or what holds it is a clock that was far ahead. */
export function isAbandoned(job: JobRecord, nowMs: number): boolean {
  const ageMs = nowMs - job.heldAtMs;
  return job.state === 'PENDING' && (ageMs > JOB_HOLD_MS || ageMs < -CLOCKS_APART_MS);
}

/** `PENDING, abandoned → PENDING | FAILURE`: another proxy takes it, at most {@link MAX_RUNS} times. */
export function takeOver(
  current: JobRecord | undefined,
  id: number,
  holder: string,
  nowMs: number,
): JobRecord | undefined {
  if (current === undefined || current.id !== id || !isAbandoned(current, nowMs)) return current;
  if (current.runs >= MAX_RUNS) {
    const error = `the proxies that ran this job went away ${current.runs} times; begin it again`;
    return { ...current, state: 'FAILURE', updatedAtMs: nowMs, error };
  }
  return { ...current, holder, heldAtMs: nowMs, updatedAtMs: nowMs, runs: current.runs + 1 };
}

/** `PENDING → SUCCESS | FAILURE`. @throws `CONFLICT` when another proxy runs it */
export function endJob(
  current: JobRecord | undefined,
  id: number,
  holder: string,
  end: Pick<JobRecord, 'state' | 'rows' | 'moreRows'> & { readonly error?: string },
  nowMs: number,
): JobRecord {
  return { ...held(current, id, holder), ...end, updatedAtMs: nowMs };
}

function held(current: JobRecord | undefined, id: number, holder: string): JobRecord {
  if (current?.id === id && current.state === 'PENDING' && current.holder === holder) return current;
  throw new CodedError('CONFLICT', { message: `job ${id} is not run here any more` });
}

/** Failed rows first, which a person looks for, at most 500 and 192 KiB; `moreRows` counts the others. */
export function boundedRows(rows: readonly JobRow[]): { rows: readonly JobRow[]; moreRows: number } {
  const ordered = [
    ...rows.filter(({ state }) => state === 'failed'),
    ...rows.filter(({ state }) => state !== 'failed'),
  ];
  const kept: JobRow[] = [];
  let bytes = 0;
  for (const row of ordered.slice(0, MAX_ROWS)) {
    bytes += Buffer.byteLength(JSON.stringify(row));
    if (bytes > MAX_ROWS_BYTES) break;
    kept.push(row);
  }
  return { rows: kept, moreRows: rows.length - kept.length };
}
