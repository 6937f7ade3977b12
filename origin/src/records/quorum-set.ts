import { inTurns } from '@sepia/base/async/in-turns';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import type { Shard } from '@sepia/cluster/ring';
import { standingAbove, type Told } from '@sepia/records/core/floor';
import { joinFields, joinWhole } from '@sepia/records/core/join';
import { clockOf, type ToldClocks, tryStep } from '@sepia/records/core/set-protocol';
import type { Members } from '../cluster/members.ts';
import { PATIENT_MS } from '../deadlines/members.ts';
import { type CountedAnswer, writeToOwners } from './ask-counted.ts';
import { askMember, askOwners, isSameEpoch, MAX_TRIES, type Under } from './ask-owners.ts';
import { type MergedPage, mergeTold, type OwnPage } from './core/record-merge.ts';
import {
  type AboveFloor,
  BATCH_RECORDS,
  latest,
  OwnRecords,
  type OwnRecordsDeps,
  type ShardName,
  type ShardRecord,
  type ToldMany,
} from './own-records.ts';
import type { OwnStanding } from './own-standing.ts';
import { type Change, RidingWrite } from './riding-write.ts';

/** Keys that a member of the version before is asked for at once. */
const OLD_MEMBER_KEYS = 16;

interface QuorumSetDeps<T> extends OwnRecordsDeps<T> {
  readonly members: Members;
  readonly standing: Pick<OwnStanding, 'require' | 'sender' | 'within'>;
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
  /** What this origin itself has of it. */
  readonly here: OwnRecords<T>;
  readonly #deps: QuorumSetDeps<T>;

  /** `name`: in the path of the owners' routes. */
  constructor(name: string, deps: QuorumSetDeps<T>) {
    this.name = name;
    this.#deps = deps;
    this.here = new OwnRecords(deps);
  }

  /**
   * Writes values and tombstones of one repository to W of its owners; the rest follows behind. All get one clock.
   * `riding`: the same, on its way to some of them ({@link ride}).
   * @throws `QUORUM_LOST`, `CONFLICT`
   */
  async write(shard: ShardName, changes: readonly Change<T>[], riding?: RidingWrite<T>): Promise<void> {
    await this.#write(shard, changes, { riding });
  }

  /**
   * As {@link write}, of what was seen elsewhere after the clock `seenMs` was taken: it gets that clock, and what was written
   * later, a tombstone too, stays as it is. @throws `QUORUM_LOST`, `CONFLICT`
   */
  async writeSeen(shard: ShardName, changes: readonly Change<T>[], seenMs: number): Promise<void> {
    await this.#write(shard, changes, { seenMs });
  }

  /**
   * As {@link write}, under the clock `atMs` and no later one. @throws `QUORUM_LOST`, `CONFLICT` where something later stands in
   * its way, with its clock as `behindMs`
   */
  async writeAt(shard: ShardName, changes: readonly Change<T>[], atMs: number): Promise<void> {
    await this.#write(shard, changes, { seenMs: atMs, isWhole: true });
  }

  async #write(
    shard: ShardName,
    changes: readonly Change<T>[],
    {
      riding,
      seenMs,
      isWhole = seenMs === undefined,
    }: {
      readonly riding?: RidingWrite<T> | undefined;
      readonly seenMs?: number;
      /** All of it must stand. */
      readonly isWhole?: boolean;
    },
  ): Promise<void> {
    if (changes.length === 0) return;
    let told: ToldClocks = {};
    for (let tries = 1; ; tries++) {
      const owners = this.#shard(shard);
      const sent = tries === 1 && riding?.take(changes, owners.epoch) === true ? riding : undefined;
      const atMs = sent?.atMs ?? clockOf(seenMs ?? this.#deps.nowMs(), told);
      // Of this try alone: an owner may still answer when the next one is under way.
      let behindMs: number | undefined;
      let aheadMs: number | undefined;
      let failure: unknown;
      const records = changes.map(({ key, value }) =>
        value === undefined ? { key, atMs } : { key, atMs, value },
      );
      try {
        await writeToOwners(owners, async (id) => {
          let { sender } = this.#deps.standing;
          for await (const some of inTurns(records, BATCH_RECORDS)) {
            const put = (await sent?.answerOf(id)) ?? (await this.#put(id, shard, owners.epoch, some));
            sender = put.sender;
            // What was seen gets no later clock: one of its changes stands later, another one was deleted before that.
            if (!isWhole) continue;
            if (seenMs === undefined) aheadMs = latest(aheadMs, put.answer.aheadMs);
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
      const left = seenMs !== undefined && behindMs !== undefined ? 0 : MAX_TRIES - tries;
      const step = tryStep({ isAcknowledged, behindMs, aheadMs, isMoved, left });
      if (step === 'done') return;
      if (step === 'failed') throw failure;
      if (step === 'conflict') throw new CodedError('CONFLICT', { detail: { ...shard, tries, behindMs } });
      told = { behindMs, aheadMs };
    }
  }

  /** Changes, a few, that owners may get with something else before they are {@link write written}. */
  ride(shard: ShardName, changes: readonly Change<T>[]): RidingWrite<T> {
    return new RidingWrite(clockOf(this.#deps.nowMs()), changes, this.#shard(shard));
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
    return (await this.readAbove(shard, key, options)).record;
  }

  /** As {@link read}, with the highest floor that was told: what is not there, and not above it, was deleted. */
  async readAbove(
    shard: ShardName,
    key: readonly string[],
    options: { readonly lenient?: boolean } = {},
  ): Promise<{ readonly record: ShardRecord<T> | undefined; readonly agreedMs: number }> {
    const answers = await askOwners(this.#deps, {
      owners: () => this.#shard(shard),
      own: async () => await this.here.own(shard, key),
      other: async (id, under) => await this.#askOne(id, shard, key, under),
      settles: (found) => options.lenient === true && isValueAlone(found.map(({ record }) => record)),
      lost: () => ({ message: 'too few origins answer to know this record', detail: { ...shard, key } }),
    });
    const told = answers.map((one) => ({ entry: one.record, agreedMs: floorTold(one) }));
    return { record: this.#standing(told), agreedMs: Math.max(0, ...told.map(({ agreedMs }) => agreedMs)) };
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
        own: async () => await this.here.ownMany(shard, some),
        other: async (id, under) => await this.#askMany(id, shard, some, under),
        lost: () => ({ message: 'too few origins answer to know these records', detail: { ...shard } }),
      });
      yield some.map((_, index) =>
        this.#standing(
          answers.map((one) => ({ entry: one.records[index] ?? undefined, agreedMs: floorTold(one) })),
        ),
      );
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
    const answers = await askOwners<OwnPage<ShardRecord<T>> & AboveFloor>(this.#deps, {
      owners: () => this.#shard(shard),
      own: async () => await this.here.ownPage(shard, prefix, page),
      other: async (id, under) => await this.#deps.members.counted(id, { ...call, ...under }),
      lost: () => ({ message: 'too few origins answer to list records', detail: { ...shard } }),
    });
    return mergeTold(
      answers,
      (entry) => entry.key.at(-1) ?? '',
      (told) => this.#standing(told.map(({ page: one, entry }) => ({ entry, agreedMs: floorTold(one) }))),
    );
  }

  #shard({ upstream, repository }: ShardName): Shard {
    return this.#deps.members.shard(shardKey(upstream, repository));
  }

  /** What stands of what owners told of one key. */
  #standing(
    told: readonly { readonly entry: ShardRecord<T> | undefined; readonly agreedMs: number }[],
  ): ShardRecord<T> | undefined {
    const key = told.find(({ entry }) => entry !== undefined)?.entry?.key;
    if (key === undefined) return undefined;
    const entries: Told[] = told.map(({ entry, agreedMs }) => ({
      entry: entry && withoutKey(entry),
      agreedMs,
    }));
    const found = standingAbove(entries, this.#deps.byField === true ? joinFields : joinWhole);
    return found && { key, ...(found as Omit<ShardRecord<T>, 'key'>) };
  }

  async #askOne(
    id: string,
    shard: ShardName,
    key: readonly string[],
    under: Under,
  ): Promise<CountedAnswer<{ readonly record?: ShardRecord<T> } & AboveFloor>> {
    return await this.#deps.members.counted<{ readonly record?: ShardRecord<T> } & AboveFloor>(id, {
      ...to(ORIGIN_RECORDS.records, { ...shard, set: this.name, key: JSON.stringify(key) }),
      ...under,
    });
  }

  async #askMany(
    id: string,
    shard: ShardName,
    keys: readonly (readonly string[])[],
    under: Under,
  ): Promise<CountedAnswer<ToldMany<T>>> {
    const call = {
      ...to(ORIGIN_RECORDS.recordsRead, { ...shard, set: this.name }),
      json: { keys },
      headersTimeoutMs: PATIENT_MS,
      ...under,
    };
    const told = await this.#deps.members.counted<Partial<ToldMany<T>>>(id, call).catch((error: unknown) => {
      if (!isCoded(error, 'ROUTE_UNKNOWN')) throw error;
      return undefined;
    });
    if (told === undefined) return await this.#askEach(id, shard, keys, under);
    const { records, agreedMs } = told.answer;
    if (Array.isArray(records) && records.length === keys.length)
      return { sender: told.sender, answer: { records, agreedMs } };
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
  ): Promise<CountedAnswer<ToldMany<T>>> {
    const told: CountedAnswer<{ readonly record?: ShardRecord<T> }>[] = [];
    for await (const some of inTurns(keys, OLD_MEMBER_KEYS))
      told.push(...(await Promise.all(some.map((key) => this.#askOne(id, shard, key, under)))));
    const records = told.map(({ answer }) => answer.record ?? null);
    return { sender: told.at(-1)!.sender, answer: { records } };
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
        own: async () => await this.here.putOwn(shard, records),
        other: async (_, under) =>
          await this.#deps.members.counted<ToldClocks>(id, {
            ...to(ORIGIN_RECORDS.recordsPut, { ...shard, set: this.name }),
            json: { records },
            ...under,
            headersTimeoutMs: PATIENT_MS,
          }),
      },
    );
  }
}

/** Anything but a clock is no floor: it takes nothing away. */
function floorTold({ agreedMs }: { readonly agreedMs?: unknown }): number {
  return typeof agreedMs === 'number' && Number.isFinite(agreedMs) && agreedMs > 0 ? agreedMs : 0;
}

function withoutKey<T>({ key: _, ...entry }: ShardRecord<T>): Omit<ShardRecord<T>, 'key'> {
  return entry;
}

function isValueAlone(answers: readonly ({ readonly value?: unknown } | undefined)[]): boolean {
  const told = answers.filter((one) => one !== undefined);
  return told.length > 0 && told.every((one) => one.value !== undefined);
}
