import { answersOf, askAll } from '@sepia/base/async/ask-many';
import { Passes } from '@sepia/base/async/passes';
import { delay } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { ORIGIN_RING, type RingStatus } from '@sepia/cluster/api/ring';
import { to } from '@sepia/cluster/api/route';
import { type Cluster, shardKey } from '@sepia/cluster/cluster';
import { isMoving } from '@sepia/cluster/membership';
import { mayGo } from '@sepia/records/core/floor';
import { FLOORED_SPACES } from '@sepia/records/store/floors';
import type { RecordStore } from '@sepia/records/store/record-store';
import type { Members } from '../cluster/members.ts';
import { PAGE_REST_MS } from '../deadlines/members.ts';
import { FIRST_TOMBSTONES_MS, MAX_TOMBSTONES_MS, MIN_TOMBSTONES_MS } from '../deadlines/own.ts';
import type { ShardName } from '../records/own-records.ts';
import type { OwnStanding } from '../records/own-standing.ts';
import { setOf } from './floor-pages.ts';
import type { FloorRounds } from './floor-rounds.ts';

/** Old tombstones of a repository for which it is worth to look for a floor: that is a record too, and stays. */
const WORTH = 100;
/** Between two passes, in ms: a part of the grace, between these. */
const GRACE_PARTS = 24;
/** A pass rests so often and so long, in records and ms; so long between two repositories too. */
const REST_EVERY = 2_000;

interface TombstonesDeps {
  readonly cluster: Pick<Cluster, 'members' | 'upstreams' | 'upstream'>;
  readonly members: Pick<Members, 'selfId' | 'epoch' | 'placement' | 'isSuspect' | 'json'>;
  readonly standing: Pick<OwnStanding, 'isSettled' | 'standing'>;
  readonly records: RecordStore;
  readonly ring: () => { status(): RingStatus };
  readonly rounds: Pick<FloorRounds, 'seek' | 'drop'>;
  readonly log: Logger;
  readonly dateMs: () => number;
}

/**
 * Looks through the tombstones here now and then: those below an agreed floor go, and of a repository with many old ones its
 * first owner looks for a floor, one repository at a time. Of a shared table one origin of the ring does all that. ADR 0072.
 */
export class Tombstones {
  readonly #deps: TombstonesDeps;
  readonly #graceMs: number;
  readonly #passes: Passes;
  #count = Number.NaN;

  constructor(deps: TombstonesDeps, options: { readonly graceMs: number }) {
    this.#deps = deps;
    this.#graceMs = options.graceMs;
    const everyMs = Math.min(MAX_TOMBSTONES_MS, Math.max(MIN_TOMBSTONES_MS, this.#graceMs / GRACE_PARTS));
    this.#passes = new Passes({
      name: 'tombstones',
      pass: async (signal) => await this.#pass(signal),
      firstMs: Math.min(FIRST_TOMBSTONES_MS, everyMs),
      rest: () => everyMs,
      log: deps.log,
      failed: 'tombstones were not looked through',
      level: 'debug',
    });
  }

  /** Tombstones here, as the last pass found them; NaN before it. */
  get count(): number {
    return this.#count;
  }

  start(): void {
    this.#passes.start();
  }

  async stop(): Promise<void> {
    await this.#passes.stop();
  }

  async #pass(signal: AbortSignal): Promise<void> {
    const { standing, rounds, dateMs, log } = this.#deps;
    if (!standing.isSettled || (this.#deps.records.isShared && !this.#isFirst('tombstones'))) return;
    const atMs = Math.floor(dateMs() - this.#graceMs);
    const { worth, covered } = await this.#lookThrough(atMs, signal);
    for (const shard of covered) {
      await rounds.drop(shard);
      await delay(PAGE_REST_MS, signal);
    }
    const led = worth.filter((shard) => this.#leads(shard));
    if (led.length === 0 || !(await this.#mayBegin(signal))) return;
    const { epoch } = this.#deps.members;
    for (const shard of led) {
      if (this.#deps.members.epoch !== epoch || !standing.isSettled) return;
      const isAgreed = await rounds.seek(shard, atMs, signal);
      if (isAgreed) log.info({ ...shard, atMs }, 'deletes up to a floor need no tombstones any more');
      else log.debug({ ...shard, atMs }, 'owners do not have the same up to a floor');
      await delay(PAGE_REST_MS, signal);
    }
  }

  /** Repositories that need a floor, or have enough old tombstones for one, and those with some below the one they have. */
  async #lookThrough(
    atMs: number,
    signal: AbortSignal,
  ): Promise<{ readonly worth: ShardName[]; readonly covered: ShardName[] }> {
    const { records } = this.#deps;
    const old = new Map<string, number>();
    const covered = new Set<string>();
    let [seen, count] = [0, 0];
    for (const space of FLOORED_SPACES)
      for await (const one of setOf(records, space).tombstones([])) {
        seen += 1;
        if (seen % REST_EVERY === 0) await delay(PAGE_REST_MS, signal);
        if (one === undefined) continue;
        count += 1;
        const name = one.key.slice(0, 2).join('\0');
        if (mayGo(one, records.floors.of(one.key))) covered.add(name);
        else if (one.atMs <= atMs) old.set(name, (old.get(name) ?? 0) + 1);
      }
    this.#count = count;
    const worth = new Set([...old].filter(([, many]) => many >= WORTH).map(([name]) => name));
    // What was promised is either agreed on or keeps collections from what is older.
    for (const [key, { promisedMs, agreedMs }] of records.floors.list())
      if (promisedMs > agreedMs && promisedMs <= atMs) worth.add(key.join('\0'));
    return { worth: [...worth].map(shardOf), covered: [...covered].map(shardOf) };
  }

  /** The first owner looks for it; where a registry is behind, a tombstone says more than an absent entry, and stays. */
  #leads({ upstream, repository }: ShardName): boolean {
    const { cluster, records } = this.#deps;
    if (!cluster.upstreams.some(({ name }) => name === upstream)) return false;
    if (cluster.upstream(upstream).mode !== 'none') return false;
    return records.isShared || this.#isFirst(shardKey(upstream, repository));
  }

  #isFirst(key: string): boolean {
    const { members } = this.#deps;
    return members.placement(key).owners[0] === members.selfId;
  }

  /** Every origin answers, counts, is of this version and epoch, and keeps no records that are others' by now. */
  async #mayBegin(signal: AbortSignal): Promise<boolean> {
    const { cluster, members, standing, ring, records } = this.#deps;
    const { epoch } = members;
    const ids = cluster.members('origin').map(({ id }) => id);
    if (isMoving({ epoch }) || ids.some((id) => members.isSuspect(id))) return false;
    const call = to(ORIGIN_RING.status);
    const said = await askAll(
      ids,
      async (id, over) =>
        id === members.selfId
          ? ring().status()
          : await members.json<RingStatus>(id, { ...call, signal: over }),
      { signal },
    );
    const told = answersOf(said);
    return (
      told.length === ids.length &&
      standing.isSettled &&
      members.epoch === epoch &&
      told.every(
        (one) =>
          one.epoch === epoch &&
          one.isSettled &&
          one.formerRecords === 0 &&
          (records.isShared ? one.knowsSharedFloors : one.knowsFloors) === true,
      )
    );
  }
}

function shardOf(name: string): ShardName {
  const [upstream = '', repository = ''] = name.split('\0');
  return { upstream, repository };
}
