import { CodedError, isCoded } from '@sepia/base/errors';
import { ORIGIN_FLOORS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { toldBy } from '@sepia/cluster/message';
import { type Floor, isGoneBy } from '@sepia/records/core/floor';
import type { Sender } from '@sepia/records/core/standing';
import type { RecordEntry, RecordSet } from '@sepia/records/set/record-set';
import { FLOOR_SPACE, FLOORED_SPACES, type FlooredSpace } from '@sepia/records/store/floors';
import type { RecordStore } from '@sepia/records/store/record-store';
import type { Members } from '../cluster/members.ts';
import { FLOOR_LIST_MS } from '../deadlines/members.ts';
import { type FloorBuckets, restOf, setOf, type ToldFloor } from './floor-pages.ts';
import { FLOOR_LIST, FLOOR_PAGE } from './messages.ts';

/** Entries that are taken off the disk in one step. */
const DROP_BATCH = 500;

/** `handover`: an origin that starts takes all that another one has. `repair`: one that counts takes from others that count. */
type How = 'handover' | 'repair';

interface FloorTakeoverDeps {
  readonly members: Pick<Members, 'selfId' | 'epoch' | 'counted'>;
  readonly records: RecordStore;
  readonly digests: FloorBuckets;
}

/** Floors of another owner as they were before its entries were read. */
export class TheirFloors {
  readonly generation: number;
  readonly #byName: ReadonlyMap<string, ToldFloor>;

  constructor(generation: number, floors: readonly ToldFloor[]) {
    this.generation = generation;
    this.#byName = new Map(floors.map((one) => [`${one.upstream}\0${one.repository}`, one]));
  }

  /** Of the repository of a stored key. */
  agreedMs(key: string): number {
    if (this.#byName.size === 0) return 0;
    const [upstream, repository] = key.split('\0');
    return this.#byName.get(`${upstream}\0${repository}`)?.agreedMs ?? 0;
  }

  /** Entries are of the folder whose floors these are. @throws `RECORDS_PENDING` */
  requireSame(id: string, { generation }: Pick<Sender, 'generation'>): void {
    if (this.#byName.size > 0 && generation !== this.generation) throw changed(id);
  }

  all(): Iterable<ToldFloor> {
    return this.#byName.values();
  }
}

/**
 * Takes floors of another owner over, each after all that it has of the repository: an owner with a floor and without the
 * entries would be believed that they were deleted. ADR 0072.
 */
export class FloorTakeover {
  readonly #deps: FloorTakeoverDeps;

  constructor(deps: FloorTakeoverDeps) {
    this.#deps = deps;
  }

  /** Floors that `id` has in `buckets`; none of a version that knows none. */
  async listOf(
    id: string,
    how: How,
    buckets: ReadonlySet<string>,
    signal: AbortSignal,
  ): Promise<TheirFloors> {
    const floors: ToldFloor[] = [];
    let generation: number | undefined;
    let after: string | undefined;
    do {
      const json = { how, after, buckets: [...buckets] };
      const call = { ...to(ORIGIN_FLOORS.list), json, headersTimeoutMs: FLOOR_LIST_MS, signal };
      const told = await this.#deps.members.counted(id, call).catch((error: unknown) => {
        if (!isCoded(error, 'ROUTE_UNKNOWN')) throw error;
        return undefined;
      });
      if (told === undefined) return new TheirFloors(0, []);
      generation ??= told.sender.generation;
      if (told.sender.generation !== generation) throw changed(id);
      const page = toldBy(`origin ${id}`, FLOOR_LIST, told.answer);
      floors.push(...page.floors);
      after = page.next;
    } while (after !== undefined);
    return new TheirFloors(generation, floors);
  }

  /** Takes over what they know more than this origin. @throws `PEER_HTTP`, `RECORDS_PENDING`, `CONFLICT` */
  async take(id: string, how: How, theirs: TheirFloors, signal: AbortSignal): Promise<void> {
    const { records, digests, members } = this.#deps;
    const { floors } = records;
    for (const { upstream, repository, ...floor } of theirs.all()) {
      const key = [upstream, repository];
      const own = floors.of(key);
      if (floor.agreedMs <= own.agreedMs && floor.promisedMs <= own.promisedMs) continue;
      const owners = digests.bucketOf(FLOOR_SPACE, restOf(key))?.owners ?? [];
      if (!owners.includes(id) || !owners.includes(members.selfId)) continue;
      const from = { id, how, generation: theirs.generation, floor };
      await floors.takeOver(key, floor, async () => {
        for (const space of FLOORED_SPACES) await this.#takeAll(key, space, from, signal);
      });
    }
  }

  async #takeAll(
    key: readonly string[],
    space: FlooredSpace,
    from: { readonly id: string; readonly how: How; readonly generation: number; readonly floor: Floor },
    signal: AbortSignal,
  ): Promise<void> {
    const { members, records } = this.#deps;
    const { id, how, generation, floor } = from;
    const [upstream = '', repository = ''] = key;
    const set = setOf(records, space) as RecordSet<unknown>;
    let after: string | undefined;
    do {
      const call = { ...to(ORIGIN_FLOORS.page, { upstream, repository }), json: { how, space, after } };
      const told = await members.counted(id, { ...call, headersTimeoutMs: FLOOR_LIST_MS, signal });
      const page = toldBy(`origin ${id}`, FLOOR_PAGE, told.answer);
      // Another folder in its place, or a floor that went with the repository, says nothing of what is not there.
      if (told.sender.generation !== generation || page.floor.agreedMs < floor.agreedMs) throw changed(id);
      const entries = page.entries.map(
        (one): RecordEntry<unknown> => ({
          ...(one as Omit<RecordEntry<unknown>, 'key'>),
          key: [...key, ...one.key],
        }),
      );
      if (space === 'l1') await records.mergeLinks(entries as RecordEntry<object>[], floor.agreedMs);
      else await set.mergeAll(entries, floor.agreedMs);
      const theirs = new Set(page.entries.map((one) => restOf(one.key)));
      await this.#dropAlone(set, key, { after, upTo: page.next }, theirs, floor);
      after = page.next;
    } while (after !== undefined);
  }

  /** Drops what is here, within the range of a page, and by the floor was deleted. */
  async #dropAlone(
    set: RecordSet<unknown>,
    key: readonly string[],
    range: { readonly after: string | undefined; readonly upTo: string | undefined },
    theirs: ReadonlySet<string>,
    { agreedMs }: Floor,
  ): Promise<void> {
    const lacking = { entry: undefined, agreedMs };
    let gone: (readonly string[])[] = [];
    const drop = async (): Promise<void> => {
      await set.dropAll(gone, (entry, own) => isGoneBy({ entry, agreedMs: own.agreedMs }, lacking));
      gone = [];
    };
    for await (const { key: full } of set.entries(key, range.after)) {
      const rest = restOf(full.slice(2));
      if (range.upTo !== undefined && rest > range.upTo) break;
      if (theirs.has(rest)) continue;
      gone.push(full);
      if (gone.length >= DROP_BATCH) await drop();
    }
    if (gone.length > 0) await drop();
  }
}

function changed(id: string): CodedError {
  return new CodedError('RECORDS_PENDING', {
    message: `origin ${id} changed while its floors were taken over`,
    detail: { origin: id },
  });
}
