import { inTurns } from '@sepia/base/async/in-turns';
import { shardKey } from '@sepia/cluster/cluster';
import type { Shard } from '@sepia/cluster/ring';
import { inTheWay, standsLater, type ToldClocks } from '@sepia/records/core/set-protocol';
import type { Put, RecordEntry } from '@sepia/records/set/record-set';
import type { Members } from '../cluster/members.ts';
import type { OwnPage } from './core/record-merge.ts';
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

/** What an owner told, and the agreed floor that it has under it; undefined of a version that knows none. */
export interface AboveFloor {
  readonly agreedMs?: number | undefined;
}

/** What a garbage collection saw of a key at a clock. */
interface Dead {
  readonly key: readonly string[];
  readonly atMs: number;
}

/** What a set asks of this origin's own database; a `RecordSet` is one. */
interface OwnSet<T> {
  entry(key: readonly string[]): Promise<RecordEntry<T> | undefined>;
  entriesOf(keys: readonly (readonly string[])[]): Promise<(RecordEntry<T> | undefined)[]>;
  putAll(entries: readonly RecordEntry<T>[]): Promise<Put[]>;
  buryAll(dead: readonly Dead[]): Promise<boolean[]>;
  /** The agreed floor of a key's repository. */
  agreedMs(key: readonly string[]): number;
  entries(prefix: readonly string[], after?: string): AsyncIterable<RecordEntry<T>>;
}

/** Most records taken in one message, and most bytes of a page of them. */
export const MAX_RECORDS = 10_000;
/** Records that are sent or asked for in one message, and handled here in one go: a few ms of work. */
export const BATCH_RECORDS = 1_000;
const MAX_PAGE_BYTES = 2 * 1024 * 1024;
/** What an owner told of several keys. */
export interface ToldMany<T> extends AboveFloor {
  readonly records: readonly (ShardRecord<T> | null)[];
}

export interface OwnRecordsDeps<T> {
  readonly members: Pick<Members, 'shard'>;
  readonly standing: Pick<OwnStanding, 'require'>;
  /** True where each field of a value has a clock of its own. */
  readonly byField?: boolean;
  readonly own: OwnSet<T>;
}

/** What this origin itself has of a set of records, for the other owners of their repositories. */
export class OwnRecords<T> {
  readonly #deps: OwnRecordsDeps<T>;

  constructor(deps: OwnRecordsDeps<T>) {
    this.#deps = deps;
  }

  /** This origin's own record, for other members. @throws `RECORDS_PENDING` as all that reads or writes here alone */
  async own(
    shard: ShardName,
    key: readonly string[],
  ): Promise<{ readonly record?: ShardRecord<T> } & AboveFloor> {
    return await this.#aboveFloor(shard, async () => {
      const found = await this.#deps.own.entry([shard.upstream, shard.repository, ...key]);
      return found === undefined ? {} : { record: toRecord(found) };
    });
  }

  /** This origin's own records below `prefix`, from behind the key part `after`; at least one if there is any. */
  async ownPage(
    shard: ShardName,
    prefix: readonly string[],
    page: { readonly after?: string | undefined; readonly limit: number },
  ): Promise<OwnPage<ShardRecord<T>> & AboveFloor> {
    return await this.#aboveFloor(shard, async () => await this.#ownEntries(shard, prefix, page));
  }

  async #ownEntries(
    shard: ShardName,
    prefix: readonly string[],
    page: { readonly after?: string | undefined; readonly limit: number },
  ): Promise<OwnPage<ShardRecord<T>>> {
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
  async ownMany(
    shard: ShardName,
    keys: readonly (readonly string[])[],
  ): Promise<{ readonly records: (ShardRecord<T> | null)[] } & AboveFloor> {
    return await this.#aboveFloor(shard, async () => {
      const full = keys.map((key) => [shard.upstream, shard.repository, ...key]);
      const found = await this.#deps.own.entriesOf(full);
      return { records: found.map((one) => (one === undefined ? null : toRecord(one))) };
    });
  }

  /** What is read here under one floor: read again where that was raised meanwhile, for what is below it may be gone. */
  async #aboveFloor<A extends object>(shard: ShardName, read: () => Promise<A>): Promise<A & AboveFloor> {
    const { standing, own } = this.#deps;
    const key = [shard.upstream, shard.repository];
    for (;;) {
      standing.require(this.#shard(shard));
      const agreedMs = own.agreedMs(key);
      const found = await read();
      if (own.agreedMs(key) === agreedMs) return agreedMs === 0 ? found : { ...found, agreedMs };
    }
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
      const put = await own.putAll(entries);
      for (const [index, { atMs, value }] of entries.entries()) {
        const { isNews, standing: found, behindMs: refusedMs } = put[index]!;
        // By field, a part of a write may be news and the rest be hidden by a later record.
        if (isNews && !byField) continue;
        const wanted = { atMs, value };
        const laterMs = refusedMs ?? inTheWay(wanted, found, byField);
        if (laterMs !== undefined) behindMs = latest(behindMs, laterMs);
        else aheadMs = latest(aheadMs, standsLater(wanted, found, byField));
      }
    }
    return { ...(behindMs === undefined ? {} : { behindMs }), ...(aheadMs === undefined ? {} : { aheadMs }) };
  }

  /** Leaves tombstones for what a garbage collection saw here, at its clocks; what was written since stays. */
  async buryOwn(shard: ShardName, dead: readonly Dead[]): Promise<void> {
    for await (const some of inTurns(dead, BATCH_RECORDS)) {
      this.#deps.standing.require(this.#shard(shard));
      await this.#deps.own.buryAll(
        some.map(({ key, atMs }) => ({ key: [shard.upstream, shard.repository, ...key], atMs })),
      );
    }
  }

  #shard({ upstream, repository }: ShardName): Shard {
    return this.#deps.members.shard(shardKey(upstream, repository));
  }
}

/** The later one of two clocks, if there is any. */
export function latest(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined || other === undefined ? (one ?? other) : Math.max(one, other);
}

function toRecord<T>({ key, value, ...clocks }: RecordEntry<T>): ShardRecord<T> {
  return { key: key.slice(2), ...clocks, ...(value === undefined ? {} : { value }) };
}
