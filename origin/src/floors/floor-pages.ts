import type { Floor } from '@sepia/records/core/floor';
import { FLOOR_SPACE, type FlooredSpace } from '@sepia/records/store/floors';
import type { RecordStore } from '@sepia/records/store/record-store';
import type { ShardName, ShardRecord } from '../records/own-records.ts';

const PAGE_FLOORS = 1_000;
const PAGE_RECORDS = 1_000;
const PAGE_BYTES = 1024 * 1024;

/** A repository and its floor at an owner. */
export interface ToldFloor extends ShardName, Floor {}

export interface FloorList {
  readonly floors: readonly ToldFloor[];
  /** Where the rest begins. */
  readonly next?: string;
}

/** Entries of a repository under the floor that held while they were read; `next`: where the rest begins (behind that key). */
export interface FloorPage {
  readonly floor: Floor;
  readonly entries: readonly ShardRecord<unknown>[];
  readonly next?: string;
}

/** Where floors are compared. */
export interface FloorBuckets {
  bucketOf(
    space: typeof FLOOR_SPACE,
    key: string,
  ): { readonly owners: readonly string[]; readonly name: string } | undefined;
}

interface FloorPagesDeps {
  readonly records: RecordStore;
  readonly digests: FloorBuckets;
}

/** Pages of this origin's floors, and of the records of repositories that have a floor, for the other owners. */
export class FloorPages {
  readonly #deps: FloorPagesDeps;

  constructor(deps: FloorPagesDeps) {
    this.#deps = deps;
  }

  /** Floors of repositories in `buckets`, in order, behind `after`; `isServed`: those alone. */
  list(
    buckets: ReadonlySet<string>,
    after: string | undefined,
    isServed: (shard: ShardName) => boolean,
  ): FloorList {
    const { records, digests } = this.#deps;
    const found: (ToldFloor & { readonly name: string })[] = [];
    for (const [[upstream, repository], floor] of records.floors.list()) {
      const name = `${upstream}\0${repository}`;
      if (after !== undefined && name <= after) continue;
      const bucket = digests.bucketOf(FLOOR_SPACE, name);
      if (bucket !== undefined && buckets.has(bucket.name) && isServed({ upstream, repository }))
        found.push({ name, upstream, repository, ...floor });
    }
    found.sort((a, b) => (a.name < b.name ? -1 : 1));
    const floors = found.slice(0, PAGE_FLOORS).map(({ name: _, ...floor }) => floor);
    return found.length > PAGE_FLOORS ? { floors, next: found[PAGE_FLOORS - 1]!.name } : { floors };
  }

  /** Entries of a set of a repository behind the key `after`. Read again where the floor was raised meanwhile. */
  async page(
    { upstream, repository }: ShardName,
    space: FlooredSpace,
    after: string | undefined,
  ): Promise<FloorPage> {
    const { floors } = this.#deps.records;
    const key = [upstream, repository];
    for (;;) {
      const floor = floors.of(key);
      const found = await this.#entries(key, space, after);
      if (floors.of(key).agreedMs === floor.agreedMs) return { floor, ...found };
    }
  }

  async #entries(
    key: readonly string[],
    space: FlooredSpace,
    after: string | undefined,
  ): Promise<Omit<FloorPage, 'floor'>> {
    const entries: ShardRecord<unknown>[] = [];
    let bytes = 0;
    for await (const { key: full, value, ...clocks } of setOf(this.#deps.records, space).entries(
      key,
      after,
    )) {
      if (entries.length >= PAGE_RECORDS || bytes > PAGE_BYTES)
        return { entries, next: restOf(entries.at(-1)!.key) };
      entries.push({ key: full.slice(2), ...clocks, ...(value === undefined ? {} : { value }) });
      bytes += 200 + (value === undefined ? 0 : JSON.stringify(value).length);
    }
    return { entries };
  }
}

/** The set of a key space. */
export function setOf({ linkSet, referrerSet, publicSet }: RecordStore, space: FlooredSpace) {
  return { l1: linkSet, f1: referrerSet, p1: publicSet }[space];
}

/** How an entry's key behind its repository orders. */
export function restOf(key: readonly string[]): string {
  return key.join('\0');
}
