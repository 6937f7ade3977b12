import { backoffMs } from '@sepia/base/async/backoff';
import { Passes } from '@sepia/base/async/passes';
import { throwIfBug } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import type { Logger } from '@sepia/base/log';
import { isRepositoryName, isTag, parseRepositoryName, parseTag } from '@sepia/base/names/repository';
import { shardKey } from '@sepia/cluster/cluster';
import { settledValue } from '@sepia/records/register/envelope';
import { type RecordStore, tagKey } from '@sepia/records/store/record-store';
import type { Members } from '../cluster/members.ts';
import { TAG_CHECK_MS } from '../deadlines/members.ts';
import {
  MAX_TAG_UNFINISHED_MS,
  TAG_LOOK_MS,
  TAG_UNFINISHED_MS,
  TAG_WHOLE_MS,
} from '../deadlines/upstreams.ts';
import type { TagState } from '../records/core/tag-record.ts';
import type { OwedTag, TagIndex } from '../records/tag-index.ts';
import type { TagName, Tags } from '../records/tags.ts';
import type { OpenJob, ReplicationJob } from '../replication/replication-jobs.ts';
import { MAX_JOBS, type ReplicationQueue } from '../replication/replication-queue.ts';
import { isWriteBackRule, writeBackRule } from '../replication/targets.ts';

/** Tags that are noted at once; where there were more all are looked through. */
const MAX_NOTED = 10_000;

/** A tag that may be owed without a job. */
interface Noted {
  readonly name: TagName;
  readonly dueMs: number;
  readonly isRestored: boolean;
}

export interface OwedTagsDeps {
  /** Those of mode write-back. */
  readonly upstreams: readonly string[];
  readonly members: Pick<Members, 'leaderOf' | 'selfId' | 'epoch'>;
  readonly records: RecordStore;
  readonly queue: Pick<ReplicationQueue, 'newEntry' | 'mayRun' | 'without' | 'write'>;
  readonly tags: Pick<Tags, 'state'>;
  readonly tagIndex: Pick<TagIndex, 'owed'>;
  /** The queue has something new. */
  readonly wake: () => void;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/**
 * Sees to it that every tag that awaits write-back has a job. Each was given one before it moved; it may have gone since:
 * the push of an intent went on after it ran, and died, or the tag comes from a backup. All are looked through at the
 * start, under a new membership and every hour, one alone when a job of it ends. Two jobs for one tag send nothing twice.
 */
export class OwedTags {
  readonly #deps: OwedTagsDeps;
  readonly #noted = new LatestMap<string, Noted>(MAX_NOTED);
  readonly #passes: Passes;
  #wholeDueMs = 0;
  /** As that, where more was noted than is kept: also while all are being looked through. */
  #moreDueMs = Number.POSITIVE_INFINITY;
  #wholeEpoch: number | undefined;
  #unfinished = 0;
  #restoringUntilMs = Number.NEGATIVE_INFINITY;

  constructor(deps: OwedTagsDeps) {
    this.#deps = deps;
    this.#passes = new Passes({
      name: 'owed-tags',
      pass: async () => await this.#pass(),
      rest: () => TAG_LOOK_MS,
      log: deps.log,
      failed: 'tags that await write-back were not looked at; tried again',
      level: 'debug',
    });
    deps.records.onRecord((space, _key, before, after) => {
      if (space === 'j1') this.#jobChanged(before, after);
    });
  }

  start(): void {
    if (this.#deps.upstreams.length > 0) this.#passes.start();
  }

  async stop(): Promise<void> {
    await this.#passes.stop();
  }

  /** Records of a backup come: tags first, their jobs last. Until none came for a while no tag is said to lack its job. */
  restoring(): void {
    this.#restoringUntilMs = this.#deps.nowMs() + TAG_CHECK_MS;
  }

  /** A tag of a backup was put back, at whichever of its owners. */
  restored(name: TagName): void {
    this.#note(name, { inMs: 0, isRestored: true });
  }

  #note(name: TagName, { inMs, isRestored }: { readonly inMs: number; readonly isRestored: boolean }): void {
    const { upstreams, nowMs } = this.#deps;
    if (!upstreams.includes(name.upstream)) return;
    if (this.#noted.size >= MAX_NOTED) this.#moreDueMs = Math.min(this.#moreDueMs, nowMs() + TAG_CHECK_MS);
    this.#noted.set(tagKey(name.upstream, name.repository, name.tag), {
      name,
      dueMs: nowMs() + inMs,
      isRestored,
    });
  }

  /**
   * Queues the tags without a job of the repositories that this origin leads, of one upstream or all. Returns how many;
   * `isWhole`: none had to be left out, because its records do not count here yet.
   */
  async oweAll(upstream?: string): Promise<{ count: number; isWhole: boolean }> {
    const { records, members, queue, upstreams, log } = this.#deps;
    let [count, isWhole] = [0, true];
    for (const one of upstreams) {
      if (upstream !== undefined && one !== upstream) continue;
      for (const repository of await records.repositories(one)) {
        this.#passes.signal.throwIfAborted();
        if (members.leaderOf(shardKey(one, repository)) !== members.selfId) continue;
        const name = { upstream: one, repository: parseRepositoryName(repository) };
        if (!queue.mayRun(name)) {
          isWhole = false;
          continue;
        }
        try {
          count += await this.#oweRepository(name);
        } catch (error) {
          throwIfBug(error);
          log.debug({ ...name, reason: String(error) }, 'tags that await write-back were not looked through');
          isWhole = false;
        }
      }
    }
    if (count > 0) this.#deps.wake();
    return { count, isWhole };
  }

  async #oweRepository(name: Pick<TagName, 'upstream' | 'repository'>): Promise<number> {
    let count = 0;
    const some: OwedTag[] = [];
    for await (const tag of this.#deps.tagIndex.owed(name)) {
      some.push(tag);
      if (some.length >= MAX_NOTED) count += await this.#owe(name, some.splice(0));
    }
    return count + (await this.#owe(name, some));
  }

  #jobChanged(before: unknown, after: unknown): void {
    const was = (before as { value?: Partial<ReplicationJob> } | undefined)?.value;
    const isOpen = (after as { value?: unknown } | undefined)?.value !== undefined;
    if (was === undefined || isOpen || !isWriteBackRule(was.rule ?? '')) return;
    const { upstream = '', repository = '', reference = '' } = was;
    if (!isRepositoryName(repository) || !isTag(reference)) return;
    this.#note({ upstream, repository, tag: reference }, { inMs: TAG_CHECK_MS, isRestored: false });
  }

  async #pass(): Promise<void> {
    try {
      await this.#lookAtAll();
      await this.#lookAtNoted();
    } catch (error) {
      this.#wholeDueMs = this.#deps.nowMs() + TAG_UNFINISHED_MS;
      throw error;
    }
  }

  /** Looks through all tags for jobs that were lost, where a look is due. */
  async #lookAtAll(): Promise<void> {
    const { nowMs, members, log } = this.#deps;
    const { epoch } = members;
    if (this.#wholeEpoch === epoch && nowMs() < Math.min(this.#wholeDueMs, this.#moreDueMs)) return;
    this.#moreDueMs = Number.POSITIVE_INFINITY;
    const { count, isWhole } = await this.oweAll();
    if (count > 0) log.warn({ count }, 'tags that await write-back had lost their jobs; queued again');
    this.#wholeEpoch = epoch;
    this.#unfinished = isWhole ? 0 : this.#unfinished + 1;
    const againMs = backoffMs(this.#unfinished, TAG_UNFINISHED_MS, MAX_TAG_UNFINISHED_MS);
    this.#wholeDueMs = nowMs() + (isWhole ? TAG_WHOLE_MS : againMs);
  }

  async #lookAtNoted(): Promise<void> {
    const { members, queue, nowMs } = this.#deps;
    const shards = new Map<string, Noted[]>();
    for (const [key, noted] of [...this.#noted]) {
      if (noted.dueMs > nowMs() || (noted.isRestored && this.#restoringUntilMs > nowMs())) continue;
      this.#noted.delete(key);
      const { upstream, repository } = noted.name;
      const shard = shardKey(upstream, repository);
      const list = shards.get(shard);
      if (list === undefined) shards.set(shard, [noted]);
      else list.push(noted);
    }
    let count = 0;
    for (const [shard, list] of shards) {
      const isOwn = members.leaderOf(shard) === members.selfId && queue.mayRun(list[0]!.name);
      count += await this.#oweNoted(list, isOwn);
    }
    if (count > 0) this.#deps.wake();
  }

  /** Noted tags of one repository; what could not be looked at, or got no job, is noted again. */
  async #oweNoted(list: readonly Noted[], isOwn: boolean): Promise<number> {
    try {
      const names: TagName[] = [];
      for (const { name, isRestored } of list)
        if (isRestored || (isOwn && (await this.#isOwedHere(name)))) names.push(name);
      return names.length === 0 ? 0 : await this.#oweAgain(names);
    } catch (error) {
      throwIfBug(error);
      const { upstream, repository } = list[0]!.name;
      this.#deps.log.debug({ upstream, repository, err: error }, 'noted tags are looked at again');
      for (const { name, isRestored } of list) this.#note(name, { inMs: TAG_CHECK_MS, isRestored });
      return 0;
    }
  }

  /** By this origin's own acceptor: nearly every tag whose job ended is paid, which costs one look here. */
  async #isOwedHere({ upstream, repository, tag }: TagName): Promise<boolean> {
    const key = tagKey(upstream, repository, tag);
    const { value } = await this.#deps.records.registers.state(key);
    return settledValue<TagState>(key, value)?.owed !== undefined;
  }

  async #oweAgain(names: readonly TagName[]): Promise<number> {
    const owed: OwedTag[] = [];
    for (const name of names) {
      // Each may take until its quorum is given up.
      this.#passes.signal.throwIfAborted();
      try {
        const state = await this.#deps.tags.state(name);
        const digest = state?.digest === undefined ? {} : { digest: state.digest };
        if (state?.owed !== undefined) owed.push({ tag: name.tag, ...digest });
      } catch (error) {
        throwIfBug(error);
        this.#note(name, { inMs: TAG_CHECK_MS, isRestored: true });
      }
    }
    return await this.#owe(names[0]!, owed);
  }

  /** Tags of one repository. @throws `QUORUM_LOST` */
  async #owe(
    { upstream, repository }: Pick<TagName, 'upstream' | 'repository'>,
    owed: readonly OwedTag[],
  ): Promise<number> {
    const { queue } = this.#deps;
    const name = { upstream, repository };
    const rule = writeBackRule(upstream);
    const lacking = await queue.without(
      name,
      rule,
      owed.map(({ tag }) => tag),
    );
    const entries = owed
      .filter(({ tag }) => lacking.has(tag))
      .map(({ tag, digest }): OpenJob => {
        const job = digest !== undefined ? { kind: 'copy' as const, digest } : { kind: 'delete' as const };
        return queue.newEntry({ ...name, rule, state: 'waiting', reference: parseTag(tag), ...job });
      });
    for (let at = 0; at < entries.length; at += MAX_JOBS) await queue.write(entries.slice(at, at + MAX_JOBS));
    return entries.length;
  }
}
