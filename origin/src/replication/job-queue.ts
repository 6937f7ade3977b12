import { randomBytes } from 'node:crypto';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import { type Members, QUICK_MS } from '../cluster/members.ts';
import { acknowledged } from '../records/quorum-set.ts';
import type { JobEntry, OpenJob, ReplicationJob, ReplicationJobs } from './replication-jobs.ts';

/** Most jobs in one message. */
export const MAX_JOBS = 500;

interface JobQueueDeps {
  readonly members: Members;
  readonly jobs: ReplicationJobs;
  readonly nowMs: () => number;
}

/** Writes jobs to a quorum of the owners of their repository's shard; entries of one call have the same repository. */
export class JobQueue {
  readonly #deps: JobQueueDeps;

  constructor(deps: JobQueueDeps) {
    this.#deps = deps;
  }

  /** A job with an id of its own, not written yet. */
  newEntry(job: Omit<ReplicationJob, 'v' | 'createdAtMs' | 'tries'>): OpenJob {
    const atMs = this.#deps.nowMs();
    const id = `${atMs.toString(36)}-${randomBytes(6).toString('hex')}`;
    const { upstream, repository } = job;
    return { upstream, repository, id, atMs, job: { v: 1, createdAtMs: atMs, tries: 0, ...job } };
  }

  /** Durable on W owners when it resolves; the rest follows behind. @throws `QUORUM_LOST` */
  async write(entries: readonly JobEntry[]): Promise<void> {
    const [first] = entries;
    if (first === undefined) return;
    const { owners, writeQuorum } = this.owners(first);
    await acknowledged(owners, writeQuorum, async (id) => {
      for (let at = 0; at < entries.length; at += MAX_JOBS)
        await this.tell(id, entries.slice(at, at + MAX_JOBS));
    });
  }

  /** Gives entries to one member; what it knows better is taken over here. */
  async tell(id: string, entries: readonly JobEntry[]): Promise<void> {
    const { members, jobs } = this.#deps;
    if (id === members.selfId) return void (await jobs.merge(entries));
    const { later } = await members.json<{ later: JobEntry[] }>(id, {
      ...to(ORIGIN_RECORDS.replicationJobsPut),
      json: { jobs: entries },
      headersTimeoutMs: QUICK_MS * 4,
    });
    if (later.length > 0) await jobs.merge(later);
  }

  owners(name: { readonly upstream: string; readonly repository: string }): {
    readonly owners: readonly string[];
    readonly writeQuorum: number;
  } {
    return this.#deps.members.placement(shardKey(name.upstream, name.repository));
  }
}
