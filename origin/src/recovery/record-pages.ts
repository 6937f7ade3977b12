import type { Entry } from '@sepia/records/core/join';
import { acceptorStateOf } from '@sepia/records/register/acceptor-store';
import { isCovered } from '@sepia/records/register/register';
import type { RecordEntry, RecordSet } from '@sepia/records/set/record-set';
import { isFloored } from '@sepia/records/store/floors';
import { parsedRecord } from '@sepia/records/store/record-dump';
import type { RecordStore } from '@sepia/records/store/record-store';
import type { Database } from '@sepia/store/data-folder';
import type { RecordSpace, SyncSpace } from '../records/core/record-shard.ts';
import { comparable, type RecordDigests } from './record-digests.ts';

const PAGE_RECORDS = 2_000;
const PAGE_BYTES = 1024 * 1024;
/** Records that are looked at for one page. */
const LOOKED_AT = 20_000;
/** The same bounds for records that other origins own: there one page is one message to each owner. */
const FORMER_RECORDS = 500;
const FORMER_BYTES = 512 * 1024;
const FORMER_LOOKED_AT = 5_000;

/** One record as it is stored, its key behind the space. */
export interface SyncRecord {
  readonly key: string;
  readonly stored: unknown;
}

/** Records of some buckets in order of their keys; `next`: where the rest begins (behind that key). */
export interface SyncPage {
  readonly entries: readonly SyncRecord[];
  readonly next?: string;
}

/** A record that other origins own. */
export interface FormerRecord extends SyncRecord {
  readonly owners: readonly string[];
}

interface RecordPagesDeps {
  readonly db: Database;
  readonly records: RecordStore;
  readonly digests: Pick<RecordDigests, 'bucketOf'>;
  readonly selfId: string;
}

/** Reads this origin's records for other owners, and takes theirs over. */
export class RecordPages {
  readonly #deps: RecordPagesDeps;

  constructor(deps: RecordPagesDeps) {
    this.#deps = deps;
  }

  /** A page of the records in `buckets`, up to and including the key `upTo` if one is given; `isServed`: those alone. */
  async page(
    space: SyncSpace,
    buckets: ReadonlySet<string>,
    range: { readonly after?: string | undefined; readonly upTo?: string | undefined },
    isServed: (key: string) => boolean = () => true,
  ): Promise<SyncPage> {
    const { db, digests } = this.#deps;
    const prefix = `${space}\0`;
    const lower = range.after === undefined ? { gte: prefix } : { gt: prefix + range.after };
    const upper = range.upTo === undefined ? { lt: `${space}\x01` } : { lte: prefix + range.upTo };
    const entries: SyncRecord[] = [];
    let bytes = 0;
    let seen = 0;
    for await (const [full, text] of db.iterator({ ...lower, ...upper })) {
      const key = full.slice(prefix.length);
      const bucket = digests.bucketOf(space, key);
      if (bucket !== undefined && buckets.has(bucket.name) && isServed(key)) {
        entries.push({ key, stored: parsedRecord(full, text) });
        bytes += full.length + text.length;
      }
      seen += 1;
      if (entries.length >= PAGE_RECORDS || bytes > PAGE_BYTES || seen >= LOOKED_AT)
        return { entries, next: key };
    }
    return { entries };
  }

  /**
   * Takes a register over: as a handover to a new generation, or in repair by the acceptor's own rules. False if only a
   * round can settle it. @throws `DISK_FORMAT`, `DISK_CORRUPT` for what is none
   */
  async takeRegister({ key, stored }: SyncRecord, how: 'handover' | 'repair'): Promise<boolean> {
    const state = acceptorStateOf(key, stored);
    const { registers } = this.#deps.records;
    if (how === 'repair') return await registers.repair(key, state);
    await registers.handOver(key, state);
    return true;
  }

  /** Joins an entry of a set of an owner whose floor is `theirsMs`; false if it says nothing new. */
  async takeEntry(
    space: Exclude<SyncSpace, 'r1' | 'b1'>,
    record: SyncRecord,
    theirsMs: number,
  ): Promise<boolean> {
    const { records } = this.#deps;
    const entries = [entryOf(record)];
    const [isNews = false] =
      space === 'l1'
        ? await records.mergeLinks(entries, theirsMs)
        : await this.#set(space).mergeAll(entries, theirsMs);
    return isNews;
  }

  /** Removes an entry that no other owner has. */
  async drop(space: Exclude<SyncSpace, 'r1' | 'b1'>, key: string): Promise<void> {
    await this.#set(space).remove(key.split('\0'));
  }

  /** Records here that other origins own by now, behind the key `after`. `next`: where the rest begins. */
  async former(
    space: RecordSpace,
    after: string | undefined,
  ): Promise<{ readonly entries: readonly FormerRecord[]; readonly next?: string }> {
    const { db, digests, selfId } = this.#deps;
    const prefix = `${space}\0`;
    const lower = after === undefined ? { gte: prefix } : { gt: prefix + after };
    const entries: FormerRecord[] = [];
    let [bytes, seen] = [0, 0];
    for await (const [full, text] of db.iterator({ ...lower, lt: `${space}\x01` })) {
      const key = full.slice(prefix.length);
      const owners = digests.bucketOf(space, key)?.owners;
      if (owners !== undefined && !owners.includes(selfId)) {
        entries.push({ key, stored: parsedRecord(full, text), owners });
        bytes += full.length + text.length;
      }
      seen += 1;
      if (entries.length >= FORMER_RECORDS || bytes > FORMER_BYTES || seen >= FORMER_LOOKED_AT)
        return { entries, next: key };
    }
    return { entries };
  }

  /** Of each record of a former owner, whether what is here is the same or later. */
  async covers(space: RecordSpace, records: readonly SyncRecord[]): Promise<boolean[]> {
    return await Promise.all(
      records.map(async (record) => {
        if (space !== 'r1') return await this.#set(space).covers(entryOf(record));
        const from = acceptorStateOf(record.key, record.stored);
        return isCovered(await this.#deps.records.registers.state(record.key), from);
      }),
    );
  }

  /**
   * Takes records off the disk that are still as they were read, as long as `may` says so; the floors of their repositories
   * before them, for those say what is not there. Returns how many are gone.
   */
  async dropFormer(space: RecordSpace, records: readonly SyncRecord[], may: () => boolean): Promise<number> {
    const { registers, floors } = this.#deps.records;
    if (!may()) return 0;
    if (isFloored(space))
      for (const { key } of records) {
        const repository = key.split('\0').slice(0, 2);
        if (floors.of(repository).promisedMs > 0) await floors.forget(repository);
      }
    const gone = await Promise.all(
      records.map(async (record) =>
        space === 'r1'
          ? await registers.forget(record.key, acceptorStateOf(record.key, record.stored), may)
          : await this.#set(space).drop(entryOf(record), may),
      ),
    );
    return gone.filter(Boolean).length;
  }

  /** The stored record of a key in the form in which it is compared; undefined if there is none. */
  async own(space: SyncSpace, key: string): Promise<string | undefined> {
    const full = `${space}\0${key}`;
    const text = await this.#deps.db.get(full);
    return text === undefined ? undefined : comparable(space, parsedRecord(full, text));
  }

  #set(space: Exclude<SyncSpace, 'r1' | 'b1'>): RecordSet<never> {
    const { linkSet, referrerSet, publicSet, jobSet } = this.#deps.records;
    return { l1: linkSet, f1: referrerSet, p1: publicSet, j1: jobSet }[space] as RecordSet<never>;
  }
}

function entryOf({ key, stored }: SyncRecord): RecordEntry<never> {
  const { v: _, deleted: __, ...entry } = stored as Entry & { v: 1; deleted?: true };
  return { key: key.split('\0'), ...(entry as Entry & { value: never }) };
}
