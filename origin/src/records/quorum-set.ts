import { inTurns } from '@sepia/base/async/in-turns';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import type { Shard } from '@sepia/cluster/ring';
import { joinFields, joinWhole } from '@sepia/records/core/join';
import {
  clockOf,
  inTheWay,
  standingOf,
  standsLater,
  type ToldClocks,
  tryStep,
} from '@sepia/records/core/set-protocol';
import type { RecordEntry } from '@sepia/records/set/record-set';
import { type Members, QUICK_MS } from '../cluster/members.ts';
import { acknowledged, type CountedAnswer } from './ask-counted.ts';
import { askMember, askOwners, isSameEpoch, MAX_TRIES, type Under } from './ask-owners.ts';
import { type MergedPage, mergePages, type OwnPage } from './core/record-merge.ts';
import type { OwnStanding } from './own-standing.ts';

/** The repository whose owners keep the records. */
export interface ShardName {
  readonly upstream: string;
  readonly repository: string;
}

/** A record of a repository: the parts of its key behind (upstream, repository), its clock, no value for a tombstone. */
export interface ShardRecord<T> {
  readonly key: readonly string[];
  readonly atMs: number;
  readonly value?: T;
  /** Of sets that join by field, see `Entry` of the records. */
  readonly fieldMs?: Readonly<Record<string, number>>;
  readonly deadMs?: number;
}

/** What a set asks of this origin's own database; a `RecordSet` is one. */
interface OwnSet<T> {
  entry(key: readonly string[]): Promise<RecordEntry<T> | undefined>;
  entriesOf(keys: readonly (readonly string[])[]): Promise<(RecordEntry<T> | undefined)[]>;
  mergeAll(entries: readonly RecordEntry<T>[]): Promise<boolean[]>;
  entries(prefix: readonly string[], after?: string): AsyncIterable<RecordEntry<T>>;
}

/** Most records taken in one message, and most bytes of a page of them. */
export const MAX_RECORDS = 10_000;
/** Records that are sent or asked for in one message, and handled here in one go: a few ms of work. */
export const BATCH_RECORDS = 1_000;
const MAX_PAGE_BYTES = 2 * 1024 * 1024;
/** Keys that a member of the version before is asked for at once. */
const OLD_MEMBER_KEYS = 16;

interface QuorumSetDeps<T> {
  readonly members: Members;
  readonly standing: Pick<OwnStanding, 'require' | 'sender' | 'within'>;
  /** True where each field of a value has a clock of its own. */
  readonly byField?: boolean;
  readonly own: OwnSet<T>;
  readonly nowMs: () => number;
}

/**
 * A set of records kept by the owners of a repository. A write is acknowledged by W of them with one clock that is
 * later than all that it replaces (a writer that is behind is told so and takes a later one); a read asks so many that
 * one of them knows it. So a delete that was acknowledged is seen by every later read, and a later put wins over it,
 * whatever the clocks of the origins say.
 */
export class QuorumSet<T> {
  readonly name: string;
  readonly #deps: QuorumSetDeps<T>;

  /** `name`: in the path of the owners' routes. */
  constructor(name: string, deps: QuorumSetDeps<T>) {
    this.name = name;
    this.#deps = deps;
  }

  /** This origin's own record, for other members. @throws `RECORDS_PENDING` as all that reads or writes here alone */
  async own(shard: ShardName, key: readonly string[]): Promise<ShardRecord<T> | undefined> {
    this.#deps.standing.require(this.#shard(shard));
    const found = await this.#deps.own.entry([shard.upstream, shard.repository, ...key]);
    return found === undefined ? undefined : toRecord(found);
  }

  /** This origin's own records below `prefix`, from behind the key part `after`; at least one if there is any. */
  async ownPage(
    shard: ShardName,
    prefix: readonly string[],
    page: { readonly after?: string | undefined; readonly limit: number },
  ): Promise<OwnPage<ShardRecord<T>>> {
    this.#deps.standing.require(this.#shard(shard));
    const entries: ShardRecord<T>[] = [];
    let bytes = 0;
    for await (const entry of this.#deps.own.entries(
      [shard.upstream, shard.repository, ...prefix],
      page.after,
    )) {
      if (entries.length >= page.limit || bytes > MAX_PAGE_BYTES) return { entries, more: true };
      entries.push(toRecord(entry));
      bytes += 200 + (entry.value === undefined ? 0 : JSON.stringify(entry.value).length);
    }
    return { entries, more: false };
  }

  /** As {@link own} for several keys, in their order; null where there is none. */
  async ownMany(shard: ShardName, keys: readonly (readonly string[])[]): Promise<(ShardRecord<T> | null)[]> {
    this.#deps.standing.require(this.#shard(shard));
    const full = keys.map((key) => [shard.upstream, shard.repository, ...key]);
    const found = await this.#deps.own.entriesOf(full);
    return found.map((one) => (one === undefined ? null : toRecord(one)));
  }

  /**
   * Takes records of another member; durable when it resolves. Names the latest clock that stands in the way, and the latest
   * under which the same stands already, if any.
   */
  async putOwn(shard: ShardName, records: readonly ShardRecord<T>[]): Promise<ToldClocks> {
    const { own, standing, byField = false } = this.#deps;
    let behindMs: number | undefined;
    let aheadMs: number | undefined;
    for await (const some of inTurns(records, BATCH_RECORDS)) {
      standing.require(this.#shard(shard));
      const entries = some.map(({ key, atMs, value }) => ({
        key: [shard.upstream, shard.repository, ...key],
        atMs,
        value,
      }));
      const isNews = await own.mergeAll(entries);
      // By field, a part of a write may be news and the rest be hidden by a later record.
      const inDoubt = entries.filter((_, index) => byField || isNews[index] === false);
      const found = await own.entriesOf(inDoubt.map(({ key }) => key));
      for (const [index, { atMs, value }] of inDoubt.entries()) {
        const wanted = { atMs, value };
        const laterMs = inTheWay(wanted, found[index], byField);
        if (laterMs !== undefined) behindMs = latest(behindMs, laterMs);
        else aheadMs = latest(aheadMs, standsLater(wanted, found[index], byField));
      }
    }
    return { ...(behindMs === undefined ? {} : { behindMs }), ...(aheadMs === undefined ? {} : { aheadMs }) };
  }

  /**
   * Writes values and tombstones of one repository to W of its owners; the rest follows behind. All get one clock.
   * @throws `QUORUM_LOST`, `CONFLICT`
   */
  async write(
    shard: ShardName,
    changes: readonly { readonly key: readonly string[]; readonly value?: T | undefined }[],
  ): Promise<void> {
    if (changes.length === 0) return;
    let told: ToldClocks = {};
    for (let tries = 1; ; tries++) {
      const atMs = clockOf(this.#deps.nowMs(), told);
      // Of this try alone: an owner may still answer when the next one is under way.
      let behindMs: number | undefined;
      let aheadMs: number | undefined;
      let failure: unknown;
      const owners = this.#shard(shard);
      const records = changes.map(({ key, value }) =>
        value === undefined ? { key, atMs } : { key, atMs, value },
      );
      try {
        await acknowledged(owners, async (id) => {
          let { sender } = this.#deps.standing;
          for await (const some of inTurns(records, BATCH_RECORDS)) {
            const put = await this.#put(id, shard, owners.epoch, some);
            sender = put.sender;
            aheadMs = latest(aheadMs, put.answer.aheadMs);
            behindMs = latest(behindMs, put.answer.behindMs);
            if (put.answer.behindMs === undefined) continue;
            throw new CodedError('CONFLICT', {
              message: 'a later record stands in the way',
              detail: { origin: id },
            });
          }
          return sender;
        });
      } catch (error) {
        throwIfBug(error);
        failure = error;
      }
      const isAcknowledged = failure === undefined;
      const isMoved =
        behindMs === undefined && !isAcknowledged && !(await isSameEpoch(this.#deps.members, owners.epoch));
      const step = tryStep({ isAcknowledged, behindMs, aheadMs, isMoved, left: MAX_TRIES - tries });
      if (step === 'done') return;
      if (step === 'failed') throw failure;
      if (step === 'conflict') throw new CodedError('CONFLICT', { detail: { ...shard, tries } });
      told = { behindMs, aheadMs };
    }
  }

  /**
   * The record that stands, a tombstone as such; undefined if there never was one. `lenient`: where records are not
   * deleted the first value ends it, unless a tombstone was told before. @throws `QUORUM_LOST`
   */
  async read(
    shard: ShardName,
    key: readonly string[],
    options: { readonly lenient?: boolean } = {},
  ): Promise<ShardRecord<T> | undefined> {
    const answers = await askOwners(this.#deps, {
      owners: () => this.#shard(shard),
      own: async () => await this.own(shard, key),
      other: async (id, under) => await this.#askOne(id, shard, key, under),
      settles: (found) => options.lenient === true && isValueAlone(found),
      lost: () => ({ message: 'too few origins answer to know this record', detail: { ...shard, key } }),
    });
    return this.#standing(answers);
  }

  /**
   * As {@link read} of many keys, in their order: one message an owner for every {@link BATCH_RECORDS} of them.
   * @throws `QUORUM_LOST`
   */
  async *readMany(
    shard: ShardName,
    keys: readonly (readonly string[])[],
  ): AsyncGenerator<(ShardRecord<T> | undefined)[], void, void> {
    for await (const some of inTurns(keys, BATCH_RECORDS)) {
      const answers = await askOwners(this.#deps, {
        owners: () => this.#shard(shard),
        own: async () => await this.ownMany(shard, some),
        other: async (id, under) => await this.#askMany(id, shard, some, under),
        lost: () => ({ message: 'too few origins answer to know these records', detail: { ...shard } }),
      });
      yield some.map((_, index) => this.#standing(answers.map((one) => one[index] ?? undefined)));
    }
  }

  /** Values and tombstones below `prefix`, in key order, as far as enough owners tell. @throws `QUORUM_LOST` */
  async page(
    shard: ShardName,
    prefix: readonly string[],
    page: { readonly after?: string | undefined; readonly limit: number },
  ): Promise<MergedPage<ShardRecord<T>>> {
    const asked = { ...shard, set: this.name, prefix: JSON.stringify(prefix), ...page };
    const call = to(ORIGIN_RECORDS.records, asked);
    const answers = await askOwners<OwnPage<ShardRecord<T>>>(this.#deps, {
      owners: () => this.#shard(shard),
      own: async () => await this.ownPage(shard, prefix, page),
      other: async (id, under) => await this.#deps.members.counted(id, { ...call, ...under }),
      lost: () => ({ message: 'too few origins answer to list records', detail: { ...shard } }),
    });
    return mergePages(
      answers,
      (entry) => entry.key.at(-1) ?? '',
      (a, b) => this.#joined(a, b),
    );
  }

  #shard({ upstream, repository }: ShardName): Shard {
    return this.#deps.members.shard(shardKey(upstream, repository));
  }

  #standing(told: readonly (ShardRecord<T> | undefined)[]): ShardRecord<T> | undefined {
    return standingOf(told, (a, b) => this.#joined(a, b));
  }

  #joined(a: ShardRecord<T>, b: ShardRecord<T>): ShardRecord<T> {
    const { key, ...one } = a;
    const { key: _, ...other } = b;
    return { key, ...((this.#deps.byField === true ? joinFields : joinWhole)(one, other) as typeof one) };
  }

  async #askOne(
    id: string,
    shard: ShardName,
    key: readonly string[],
    under: Under,
  ): Promise<CountedAnswer<ShardRecord<T> | undefined>> {
    const told = await this.#deps.members.counted<{ record?: ShardRecord<T> }>(id, {
      ...to(ORIGIN_RECORDS.records, { ...shard, set: this.name, key: JSON.stringify(key) }),
      ...under,
    });
    return { sender: told.sender, answer: told.answer.record };
  }

  async #askMany(
    id: string,
    shard: ShardName,
    keys: readonly (readonly string[])[],
    under: Under,
  ): Promise<CountedAnswer<(ShardRecord<T> | null)[]>> {
    const call = {
      ...to(ORIGIN_RECORDS.recordsRead, { ...shard, set: this.name }),
      json: { keys },
      headersTimeoutMs: QUICK_MS * 4,
      ...under,
    };
    const told = await this.#deps.members
      .counted<{ records?: (ShardRecord<T> | null)[] }>(id, call)
      .catch((error: unknown) => {
        if (!isCoded(error, 'ROUTE_UNKNOWN')) throw error;
        return undefined;
      });
    if (told === undefined) return await this.#askEach(id, shard, keys, under);
    const { records } = told.answer;
    if (Array.isArray(records) && records.length === keys.length)
      return { sender: told.sender, answer: records };
    throw new CodedError('PEER_HTTP', {
      message: `origin ${id} answered for ${records?.length} of ${keys.length} records`,
      detail: { status: 200 },
    });
  }

  /** As {@link #askMany} for a member of the version before, which is asked for one key at a time. */
  async #askEach(
    id: string,
    shard: ShardName,
    keys: readonly (readonly string[])[],
    under: Under,
  ): Promise<CountedAnswer<(ShardRecord<T> | null)[]>> {
    const told: CountedAnswer<ShardRecord<T> | undefined>[] = [];
    for await (const some of inTurns(keys, OLD_MEMBER_KEYS))
      told.push(...(await Promise.all(some.map((key) => this.#askOne(id, shard, key, under)))));
    return { sender: told.at(-1)!.sender, answer: told.map(({ answer }) => answer ?? null) };
  }

  async #put(
    id: string,
    shard: ShardName,
    epoch: number,
    records: readonly ShardRecord<T>[],
  ): Promise<CountedAnswer<ToldClocks>> {
    return await askMember(
      this.#deps,
      id,
      { epoch },
      {
        own: async () => await this.putOwn(shard, records),
        other: async (_, under) =>
          await this.#deps.members.counted<ToldClocks>(id, {
            ...to(ORIGIN_RECORDS.recordsPut, { ...shard, set: this.name }),
            json: { records },
            ...under,
            headersTimeoutMs: QUICK_MS * 4,
          }),
      },
    );
  }
}

function latest(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined || other === undefined ? (one ?? other) : Math.max(one, other);
}

function isValueAlone(answers: readonly ({ readonly value?: unknown } | undefined)[]): boolean {
  const told = answers.filter((one) => one !== undefined);
  return told.length > 0 && told.every((one) => one.value !== undefined);
}

function toRecord<T>({ key, value, ...clocks }: RecordEntry<T>): ShardRecord<T> {
  return { key: key.slice(2), ...clocks, ...(value === undefined ? {} : { value }) };
}
