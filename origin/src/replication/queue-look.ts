import { shardKey } from '@sepia/cluster/cluster';
import type { Members } from '../cluster/members.ts';
import { INTENT_MS, TELL_AGAIN_MS } from '../deadlines/members.ts';
import { type GroupOf, GroupPick } from './core/group-pick.ts';
import type { OpenJob, ReplicationJob, ReplicationJobs } from './replication-jobs.ts';
import { MAX_JOBS, type ReplicationQueue } from './replication-queue.ts';
import { isWriteBackRule } from './targets.ts';

/** Of what may run, one look takes up so many groups of one rule, and so many jobs in all; the others wait for a later one. */
const LIMITS = { groups: 2_000, jobsOfGroup: MAX_JOBS, jobs: 10_000 } as const;

/** Jobs that one copy settles: the same tag of the same rule, pushed once or often; at most {@link MAX_JOBS}. */
export type Group = GroupOf<OpenJob>;

/** Jobs of one rule, of the shards that this origin leads. */
export interface Backlog {
  readonly waiting: number;
  readonly dead: number;
  /** When the oldest that waits was written, by the cluster's date. */
  readonly oldestAtMs: number | undefined;
}

/** What one look at the queue found; all but the counts within limits. */
export interface Look {
  /** Jobs that are not done. */
  readonly size: number;
  /** Of the replication rules. */
  readonly counts: { readonly waiting: number; readonly dead: number };
  readonly backlogs: ReadonlyMap<string, Backlog>;
  /** What may begin. */
  readonly groups: readonly Group[];
  /** Jobs that their leader may not know of, by leader; a leader without an entry knows all of its jobs. */
  readonly foreign: ReadonlyMap<string, readonly OpenJob[]>;
  /** Those of the ids asked about whose jobs are still open. */
  readonly open: ReadonlySet<string>;
}

interface QueueLookDeps {
  readonly jobs: Pick<ReplicationJobs, 'open'>;
  readonly queue: Pick<ReplicationQueue, 'mayRun'>;
  readonly members: Pick<Members, 'leaderOf' | 'selfId'>;
  readonly rules: { readonly size: number; has(rule: string): boolean };
  readonly nowMs: () => number;
}

/** Looks through the whole queue, however long, and keeps a bounded part of it: what may run next. */
export class QueueLook {
  readonly #deps: QueueLookDeps;
  #seenMs = new Map<string, number>();
  readonly #toldMs = new Map<string, number>();

  constructor(deps: QueueLookDeps) {
    this.#deps = deps;
  }

  /** `ids`: those of running jobs. `mayBegin`: false for groups that run already, or wait after a failure. */
  async look(ids: ReadonlySet<string>, mayBegin: (key: string, rule: string) => boolean): Promise<Look> {
    const { members, jobs, rules, queue, nowMs } = this.#deps;
    const seenMs = new Map<string, number>();
    const picked = new GroupPick<OpenJob>(LIMITS, rules.size);
    const mayBeFirst = (one: OpenJob, key: string): boolean =>
      mayBegin(key, one.job.rule) && queue.mayRun(one);
    const foreign = new Map<string, OpenJob[]>();
    const open = new Set<string>();
    const counts = { waiting: 0, dead: 0 };
    const backlogs = new Map<string, Backlog>();
    let size = 0;
    for (const [id, atMs] of this.#toldMs) if (nowMs() - atMs >= TELL_AGAIN_MS) this.#toldMs.delete(id);
    for await (const one of jobs.open()) {
      size += 1;
      const { id, job } = one;
      if (ids.has(id)) open.add(id);
      if (!isWriteBackRule(job.rule)) counts[job.state === 'dead' ? 'dead' : 'waiting'] += 1;
      const leader = members.leaderOf(shardKey(one.upstream, one.repository));
      if (leader !== members.selfId) {
        const list = foreign.get(leader) ?? [];
        foreign.set(leader, list);
        if (!this.#toldMs.has(id) && list.length < MAX_JOBS) list.push(one);
        continue;
      }
      backlogs.set(job.rule, withJob(backlogs.get(job.rule), job));
      if (!rules.has(job.rule) || job.state === 'dead' || !this.#isRipe(one, seenMs)) continue;
      picked.add(job.rule, groupKey(job), one, mayBeFirst);
    }
    this.#seenMs = seenMs;
    return { size, counts, backlogs, groups: picked.groups, foreign, open };
  }

  /** A leader was told of jobs. */
  told(list: readonly OpenJob[]): void {
    for (const { id } of list) this.#toldMs.set(id, this.#deps.nowMs());
  }

  #isRipe({ id, job }: OpenJob, seenNow: Map<string, number>): boolean {
    if (job.state !== 'intent') return true;
    const nowMs = this.#deps.nowMs();
    const seenMs = this.#seenMs.get(id) ?? nowMs;
    seenNow.set(id, seenMs);
    return nowMs - seenMs >= INTENT_MS;
  }
}

/** What one copy settles; of a write-back whatever happened to one tag, in its order. */
export function groupKey({ rule, upstream, repository, reference, kind }: ReplicationJob): string {
  return [rule, isWriteBackRule(rule) ? 'all' : kind, upstream, repository, reference].join('\n');
}

function withJob(before: Backlog | undefined, { state, createdAtMs }: ReplicationJob): Backlog {
  const { waiting = 0, dead = 0, oldestAtMs } = before ?? {};
  return state === 'dead'
    ? { waiting, dead: dead + 1, oldestAtMs }
    : { waiting: waiting + 1, dead, oldestAtMs: Math.min(oldestAtMs ?? createdAtMs, createdAtMs) };
}
