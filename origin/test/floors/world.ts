import { CodedError } from '@sepia/base/errors';
import { isAlone } from '@sepia/records/core/set-protocol';
import {
  begin,
  grant,
  type Sender,
  type Standing,
  takeOver,
  ungenerated,
} from '@sepia/records/core/standing';
import { type Link, RecordStore } from '@sepia/records/store/record-store';
import type { KeyRange, RecordTable, TableStep } from '@sepia/records/table/record-table';
import type { Members } from '../../src/cluster/members.ts';
import { FloorPages } from '../../src/floors/floor-pages.ts';
import { FloorRounds } from '../../src/floors/floor-rounds.ts';
import { FloorTakeover } from '../../src/floors/floor-takeover.ts';
import type { ShardRecord } from '../../src/records/own-records.ts';
import { QuorumSet } from '../../src/records/quorum-set.ts';

export const IDS = ['a', 'b', 'c'];
export const SHARD = { upstream: 'u', repository: 'r' };
const SETS = { epoch: 0, sets: [IDS] };
const BUCKET = { name: 'all', owners: IDS };
const NEVER = new AbortController().signal;

/** A disk that can be copied. */
class MemoryTable implements RecordTable {
  readonly isShared = false;
  readonly texts: Map<string, string>;

  constructor(texts: ReadonlyMap<string, string> = new Map()) {
    this.texts = new Map(texts);
  }

  async get(key: string): Promise<string | undefined> {
    return this.texts.get(key);
  }

  async getMany(keys: readonly string[]): Promise<(string | undefined)[]> {
    return keys.map((key) => this.texts.get(key));
  }

  async change<A>(
    keys: readonly string[],
    step: (found: readonly (string | undefined)[]) => TableStep<A>,
  ): Promise<A> {
    const { writes, answer, onDurable } = step(keys.map((key) => this.texts.get(key)));
    for (const write of writes)
      if (write.type === 'put') this.texts.set(write.key, write.value);
      else this.texts.delete(write.key);
    onDurable?.();
    return answer;
  }

  async *entries({ gte = '', gt, lt = '\uffff' }: KeyRange): AsyncGenerator<readonly [string, string]> {
    const keys = [...this.texts.keys()].filter(
      (key) => key >= gte && (gt === undefined || key > gt) && key < lt,
    );
    for (const key of keys.sort()) if (this.texts.has(key)) yield [key, this.texts.get(key)!];
  }

  async *keys(range: KeyRange): AsyncGenerator<string> {
    for await (const [key] of this.entries(range)) yield key;
  }

  onForeign(): void {}
  async told(): Promise<void> {}
  async idle(): Promise<void> {}
}

/** What becomes of the messages to an owner. */
export type Fate = 'arrives' | 'is lost' | 'is late';

/** One of three owners of one repository, by the code that ships; what is around it is made here. */
class Owner {
  readonly id: string;
  readonly table: MemoryTable;
  readonly records: RecordStore;
  standing: Standing;
  lacking = new Map<string, string[]>();
  readonly set: QuorumSet<Link>;
  readonly rounds: FloorRounds;
  readonly pages: FloorPages;
  readonly takeover: FloorTakeover;

  constructor(world: World, standing: Standing, texts?: ReadonlyMap<string, string>) {
    this.id = standing.id;
    this.standing = standing;
    this.table = new MemoryTable(texts);
    this.records = new RecordStore({ table: this.table });
    const members = world.membersOf(this.id);
    const own = this;
    const asked = {
      require: (): void => own.require(),
      within: async <T>(_epoch: number, work: () => Promise<T>): Promise<T> => await work(),
      counts: () => own.standing.settled,
      get sender() {
        return own.sender;
      },
      get standing() {
        return own.standing;
      },
    };
    const { records } = this;
    const dateMs = (): number => world.nowMs;
    const digests = { bucketOf: () => BUCKET };
    const nowMs = (): number => world.writerMs;
    this.set = new QuorumSet<Link>('links', {
      ...{ members, standing: asked, own: records.linkSet, byField: true, nowMs },
    });
    this.rounds = new FloorRounds({ members, standing: asked, records, dateMs, onDropped: () => undefined });
    this.pages = new FloorPages({ records, digests });
    this.takeover = new FloorTakeover({ members, records, digests });
  }

  get sender(): Sender {
    const { id, generation, known } = this.standing;
    return { id, generation, known };
  }

  require(): void {
    if (!this.standing.settled) throw new CodedError('RECORDS_PENDING');
  }

  /** As the routes answer. */
  async answer(path: string, json: never): Promise<unknown> {
    const url = new URL(path, 'http://x');
    const { how, space, after, atMs, generation, records, buckets } = json ?? ({} as Record<string, never>);
    const key = url.searchParams.get('key');
    if (how === 'repair') this.require();
    if (key !== null) return await this.set.here.own(SHARD, JSON.parse(key) as string[]);
    if (url.pathname === '/v1/records/links') return await this.set.here.putOwn(SHARD, records);
    if (url.pathname === '/v1/floors/promise') return await this.rounds.promise(SHARD, atMs);
    if (url.pathname === '/v1/floors/agree') return (await this.rounds.agree(SHARD, atMs, generation)) ?? {};
    if (url.pathname === '/v1/floors/list') return this.pages.list(new Set(buckets), after, () => true);
    if (url.pathname === '/v1/floors/page') return await this.pages.page(SHARD, space, after);
    throw new Error(path);
  }
}

/** Three owners, their disks, and messages that are lost, or arrive late. */
export class World {
  readonly owners = new Map<string, Owner>();
  readonly fates = new Map<string, Fate>();
  readonly late: (() => Promise<unknown>)[] = [];
  readonly snapshots = new Map<string, { texts: ReadonlyMap<string, string>; standing: Standing }>();
  nowMs = 1_000;
  writerMs = 1_000;
  #generation = 1;

  constructor() {
    for (const id of IDS)
      this.owners.set(id, new Owner(this, { ...ungenerated(id), generation: 1, settled: true }));
  }

  of(id: string): Owner {
    return this.owners.get(id)!;
  }

  get settled(): string[] {
    return IDS.filter((id) => this.of(id).standing.settled);
  }

  membersOf(selfId: string): Members {
    return {
      ...{ selfId, epoch: 0, news: async () => undefined, isSuspect: () => false, shard: () => SETS },
      counted: async (id: string, { path, json }: { path: string; json?: object }) => {
        const text = JSON.stringify(json);
        const run = async (): Promise<unknown> => {
          const owner = this.of(id);
          const answer = await owner.answer(
            path,
            (text === undefined ? undefined : JSON.parse(text)) as never,
          );
          return { sender: owner.sender, answer: JSON.parse(JSON.stringify(answer)) };
        };
        const fate = this.fates.get(id) ?? 'arrives';
        if (fate === 'arrives') return await run();
        if (fate === 'is late' && json !== undefined) this.late.push(run);
        throw new CodedError('PEER_HTTP');
      },
    } as unknown as Members;
  }

  /** A start with an empty disk, or one as it was. */
  async start(
    id: string,
    from?: { readonly texts: ReadonlyMap<string, string>; readonly standing: Standing },
  ): Promise<void> {
    const before = from?.standing ?? { ...ungenerated(id), kept: false, settled: false };
    const kept = from !== undefined && (before.kept || before.settled);
    this.#generation += 1;
    this.owners.set(id, new Owner(this, begin(before, this.#generation, kept), from?.texts));
    await this.of(id).records.floors.load();
  }

  snapshot(id: string): void {
    const { table, standing } = this.of(id);
    this.snapshots.set(id, { texts: new Map(table.texts), standing });
  }

  /** What another owner has, as a comparison or a handover takes it; its floors first and last. */
  async pull(to: string, from: string, how: 'handover' | 'repair'): Promise<void> {
    const own = this.of(to);
    const theirs = await own.takeover.listOf(from, how, new Set([BUCKET.name]), NEVER);
    const floorMs = theirs.agreedMs(`${SHARD.upstream}\0${SHARD.repository}\0x`);
    for await (const entry of this.of(from).records.linkSet.entries([]))
      await own.records.linkSet.mergeAll([entry], floorMs);
    await own.takeover.take(from, how, theirs, NEVER);
  }

  async handOver(to: string, from: string): Promise<void> {
    const [own, source] = [this.of(to), this.of(from)];
    const granted = grant(source.standing, own.standing);
    if (granted.type !== 'granted' || own.standing.settled || own.standing.handed.includes(from)) return;
    source.standing = granted.next;
    await this.pull(to, from, 'handover');
    for await (const { key } of own.records.linkSet.entries([])) {
      const name = key.join('\0');
      const isThere = (await source.records.linkSet.entry(key)) !== undefined;
      const lacking = own.lacking.get(name) ?? [];
      if (!isThere && source.standing.settled) lacking.push(from);
      own.lacking.set(name, lacking);
      if (isAlone(IDS, to, (id) => lacking.includes(id))) await own.records.linkSet.remove(key);
    }
    own.standing = takeOver(own.standing, { ...source.sender, epoch: 0 }, [IDS]);
  }

  /** What two owners say of a key; undefined if their answers do not count together. */
  async readBy(
    key: readonly string[],
    ids: readonly string[],
  ): Promise<ShardRecord<Link> | 'none' | undefined> {
    const before = new Map(this.fates);
    this.fates.clear();
    for (const id of IDS) if (!ids.includes(id)) this.fates.set(id, 'is lost');
    try {
      return (await this.of(ids[0]!).set.read(SHARD, key)) ?? 'none';
    } catch (error) {
      if (error instanceof CodedError && error.code === 'QUORUM_LOST') return undefined;
      throw error;
    } finally {
      this.fates.clear();
      for (const [id, fate] of before) this.fates.set(id, fate);
    }
  }
}
