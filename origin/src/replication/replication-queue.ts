import { randomBytes } from 'node:crypto';
import { throwIfBug } from '@sepia/base/failure';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { type RouteCall, to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import type { Sender } from '@sepia/records/core/standing';
import type { Members } from '../cluster/members.ts';
import { PATIENT_MS } from '../deadlines/members.ts';
import { writeToOwners } from '../records/ask-counted.ts';
import { askOwners } from '../records/ask-owners.ts';
import type { ShardName } from '../records/own-records.ts';
import type { OwnStanding } from '../records/own-standing.ts';
import type { JobEntry, OpenJob, ReplicationJob, ReplicationJobs } from './replication-jobs.ts';

/** Most jobs in one message. */
export const MAX_JOBS = 500;

/** Most pushes that are told one by one. */
const MAX_TOLD = 200;

/** Tag or digest of a push that waits, and what was pushed, where its job says so. */
export interface WaitingManifest {
  readonly reference: string;
  readonly digest?: string | undefined;
}

/** A push that waits; nothing: none does. `all`: each of them, where that was asked and they are not too many. */
interface WaitingPush {
  readonly reference?: string;
  readonly all?: readonly WaitingManifest[];
}

interface ReplicationQueueDeps {
  readonly members: Members;
  readonly jobs: ReplicationJobs;
  readonly standing: Pick<OwnStanding, 'require' | 'counts' | 'sender' | 'within'>;
  readonly nowMs: () => number;
}

/** Writes jobs to a quorum of the owners of their repository's shard; entries of one call have the same repository. */
export class ReplicationQueue {
  readonly #deps: ReplicationQueueDeps;

  constructor(deps: ReplicationQueueDeps) {
    this.#deps = deps;
  }

  /** A job with a new id, not yet written. */
  newEntry(job: Omit<ReplicationJob, 'v' | 'createdAtMs' | 'tries'>): OpenJob {
    const atMs = this.#deps.nowMs();
    const id = `${atMs.toString(36)}-${randomBytes(6).toString('hex')}`;
    const { upstream, repository } = job;
    return { upstream, repository, id, atMs, job: { v: 1, createdAtMs: atMs, tries: 0, ...job } };
  }

  /** False while this origin does not know the records of the repository: a try would fail for that alone. */
  mayRun({ upstream, repository }: Pick<OpenJob, 'upstream' | 'repository'>): boolean {
    return this.#deps.standing.counts(this.#deps.members.shard(shardKey(upstream, repository)));
  }

  /** Durable on W owners when it resolves; the rest follows behind. @throws `QUORUM_LOST` */
  async write(entries: readonly JobEntry[]): Promise<void> {
    const [first] = entries;
    if (first === undefined) return;
    const { members, standing } = this.#deps;
    const shard = members.shard(shardKey(first.upstream, first.repository));
    try {
      await writeToOwners(shard, async (id) => {
        let { sender } = standing;
        for (let at = 0; at < entries.length; at += MAX_JOBS)
          sender = await this.tell(id, entries.slice(at, at + MAX_JOBS), shard.epoch);
        return sender;
      });
    } catch (error) {
      throwIfBug(error);
      await members.news();
      if (members.epoch === shard.epoch) throw error;
      await this.write(entries);
    }
  }

  /** Those of `references` that no open job of the repository is about, by one rule, as far as this origin knows. */
  async without(
    name: Pick<OpenJob, 'upstream' | 'repository'>,
    rule: string,
    references: Iterable<string>,
  ): Promise<ReadonlySet<string>> {
    const left = new Set(references);
    if (left.size === 0) return left;
    for await (const { job } of this.#deps.jobs.open(name)) {
      if (job.rule === rule) left.delete(job.reference);
      if (left.size === 0) break;
    }
    return left;
  }

  /**
   * A push to a repository that waits for one rule's target, or any change of `reference`, as far as this origin knows.
   * @throws `RECORDS_PENDING`
   */
  async ownWaiting(
    { upstream, repository }: ShardName,
    rule: string,
    reference?: string,
  ): Promise<WaitingPush> {
    const { members, jobs, standing } = this.#deps;
    standing.require(members.shard(shardKey(upstream, repository)));
    for await (const { job } of jobs.open({ upstream, repository }))
      if (job.rule === rule && (reference === undefined ? job.kind === 'copy' : job.reference === reference))
        return { reference: job.reference };
    return {};
  }

  /** All pushes to a repository that wait for one rule's target, as far as this origin knows. @throws `RECORDS_PENDING` */
  async ownAllWaiting({ upstream, repository }: ShardName, rule: string): Promise<WaitingPush> {
    const { members, jobs, standing } = this.#deps;
    standing.require(members.shard(shardKey(upstream, repository)));
    const all: WaitingManifest[] = [];
    for await (const { job } of jobs.open({ upstream, repository })) {
      if (job.rule !== rule || job.kind !== 'copy') continue;
      if (all.length >= MAX_TOLD) return { reference: job.reference };
      all.push({ reference: job.reference, digest: job.digest });
    }
    return { all };
  }

  /** As {@link ownAllWaiting}, of so many owners that no acknowledged push is missed; undefined where they are too many. @throws `QUORUM_LOST` */
  async allWaiting(name: ShardName, rule: string): Promise<readonly WaitingManifest[] | undefined> {
    const { upstream, repository } = name;
    const call = to(ORIGIN_RECORDS.replicationWaiting, { upstream, repository, rule, all: true });
    const own = async (): Promise<WaitingPush> => await this.ownAllWaiting(name, rule);
    const answers = await this.#askWaiting(name, call, own, () => false);
    // An origin of the version before tells of one alone.
    if (answers.some(({ all, reference }) => all === undefined && reference !== undefined)) return undefined;
    return answers.flatMap(({ all }) => all ?? []);
  }

  /** As {@link ownWaiting}, by so many owners that no acknowledged push is missed. @throws `QUORUM_LOST` */
  async waiting(name: ShardName, rule: string, wanted?: string): Promise<string | undefined> {
    const { upstream, repository } = name;
    const call = to(ORIGIN_RECORDS.replicationWaiting, { upstream, repository, rule, reference: wanted });
    const own = async (): Promise<WaitingPush> => await this.ownWaiting(name, rule, wanted);
    const isFound = ({ reference }: WaitingPush): boolean => reference !== undefined;
    return (await this.#askWaiting(name, call, own, isFound)).find(isFound)?.reference;
  }

  async #askWaiting(
    { upstream, repository }: ShardName,
    call: RouteCall,
    own: () => Promise<WaitingPush>,
    isFound: (answer: WaitingPush) => boolean,
  ): Promise<readonly WaitingPush[]> {
    const { members } = this.#deps;
    return await askOwners<WaitingPush>(this.#deps, {
      owners: () => members.shard(shardKey(upstream, repository)),
      own,
      other: async (id, under) => await members.counted(id, { ...call, ...under }),
      settles: (soFar) => soFar.some(isFound),
      lost: ({ sets }) => ({
        message: 'too few origins answer to look for pushes that wait',
        detail: { owners: sets.flat() },
      }),
    });
  }

  /** Takes entries of another member. Returns those that are later here. @throws `RECORDS_PENDING` */
  async take(entries: readonly JobEntry[]): Promise<JobEntry[]> {
    const { members, jobs, standing } = this.#deps;
    for (const { upstream, repository } of entries)
      standing.require(members.shard(shardKey(upstream, repository)));
    return await jobs.merge(entries);
  }

  /** Gives entries to one member; what it knows better is taken over here. */
  async tell(id: string, entries: readonly JobEntry[], epoch?: number): Promise<Sender> {
    const { members, jobs, standing } = this.#deps;
    if (id === members.selfId) {
      await standing.within(epoch ?? members.epoch, async () => await this.take(entries));
      return standing.sender;
    }
    const { sender, answer } = await members.counted<{ later: JobEntry[] }>(id, {
      ...to(ORIGIN_RECORDS.replicationJobsPut),
      json: { jobs: entries },
      ...(epoch === undefined ? {} : { epoch }),
      headersTimeoutMs: PATIENT_MS,
    });
    if (answer.later.length > 0) await jobs.merge(answer.later);
    return sender;
  }

  owners(name: { readonly upstream: string; readonly repository: string }): {
    readonly owners: readonly string[];
    readonly writeQuorum: number;
  } {
    return this.#deps.members.placement(shardKey(name.upstream, name.repository));
  }
}
