import { createHash } from 'node:crypto';
import { CodedError } from '@sepia/base/errors';
import { readElsewhere } from '@sepia/base/failure';
import { canonicalJson } from '@sepia/records/core/join';
import { parsedRecord } from '@sepia/records/store/record-dump';
import type { RecordStore } from '@sepia/records/store/record-store';
import type { Database } from '@sepia/store/data-folder';
import type { Members } from '../cluster/members.ts';
import { COUNTED_SPACES, type CountedSpace, isCountedSpace, shardOf } from '../records/core/record-shard.ts';

const BUCKETS = 64;
/** Between the first and the last of the spaces that are compared. */
const AGREEMENT_SPACE = 'e1';
const SUM_WORDS = 4;
/** Records that are read before others get a turn. */
const TURN = 500;

/** Where a record is compared: its owners, and a part of their records. */
export interface Bucket {
  readonly owners: readonly string[];
  /** Names both, the same at every owner. */
  readonly name: string;
}

/** One count of all records, over a snapshot of the database. */
interface Count {
  readonly snapshot: ReturnType<Database['snapshot']>;
  /** Keys that changed since: what the snapshot has of them is taken out. Undefined once all that it saw was told. */
  touched: Set<string> | undefined;
  /** Resolves when all records are counted. */
  done: Promise<void>;
}

interface RecordDigestsDeps {
  readonly db: Database;
  readonly records: RecordStore;
  readonly members: Pick<Members, 'selfId' | 'shard' | 'ids'>;
}

/**
 * Digests of this origin's records by bucket (owners × 64 parts of their shards): the sum of their hashes, kept up to
 * date with every change, so that a comparison of two owners that agree reads nothing.
 */
export class RecordDigests {
  readonly #deps: RecordDigestsDeps;
  #sums = new Map<string, { readonly owners: readonly string[]; readonly sum: Uint32Array }>();
  #last: { readonly shard: string; readonly bucket: Bucket } | undefined;
  #count: Count | undefined;

  constructor(deps: RecordDigestsDeps) {
    this.#deps = deps;
    deps.db.onReopen(() => this.reset());
    deps.records.onRecord((space, key, before, after) => {
      if (this.#count === undefined) return;
      const bucket = this.#countedIn(space, key);
      if (bucket === undefined) return;
      const counted = this.#asCounted(this.#count, `${space}\0${key}`, before);
      if (counted !== undefined) this.#toggle(bucket, space, key, counted);
      if (after !== undefined) this.#toggle(bucket, space, key, after);
    });
  }

  /** Resolves when all records are counted, under the membership of now. @throws `DISK_CORRUPT` and what the database says */
  async scan(): Promise<void> {
    for (;;) {
      this.#count ??= this.#begin();
      const count = this.#count;
      await count.done;
      if (count === this.#count) return;
    }
  }

  /** Where a record is compared; undefined for what belongs to this origin alone. */
  bucketOf(space: CountedSpace, key: string): Bucket | undefined {
    const shard = shardOf(space, key);
    if (shard === undefined) return undefined;
    if (this.#last?.shard === shard) return this.#last.bucket;
    const { members } = this.#deps;
    const owners = [...new Set(members.shard(shard).sets.flat())].sort();
    const part = (createHash('sha256').update(shard).digest()[0] ?? 0) % BUCKETS;
    const bucket = { owners, name: `${owners.join(',')}#${part}` };
    this.#last = { shard, bucket };
    return bucket;
  }

  /**
   * Digests of the buckets that this origin and `other` own, those that are empty left out.
   * @throws `RECORDS_PENDING` before {@link scan} is over: half a count would hide records
   */
  with(other: string): Record<string, string> {
    if (this.#count === undefined || this.#count.touched !== undefined)
      throw new CodedError('RECORDS_PENDING', { message: 'records are being counted' });
    const { selfId } = this.#deps.members;
    const found: Record<string, string> = {};
    for (const [name, { owners, sum }] of this.#sums)
      if (owners.includes(other) && owners.includes(selfId) && sum.some((word) => word !== 0))
        found[name] = hex(sum);
    return found;
  }

  /** Digest of all records that are compared with any other owner, and of the memberships. */
  get whole(): string {
    const all = new Uint32Array(SUM_WORDS);
    for (const { sum } of this.#sums.values()) for (let at = 0; at < SUM_WORDS; at++) all[at]! ^= sum[at]!;
    return hex(all);
  }

  /** The membership changed, or what was counted is in doubt: the next {@link scan} counts anew. */
  reset(): void {
    this.#count = undefined;
    this.#last = undefined;
  }

  #begin(): Count {
    const snapshot = this.#deps.db.snapshot();
    this.#sums = new Map();
    const count: Count = { snapshot, touched: new Set(), done: Promise.resolve() };
    // Once it is the one that counts, also when it fails at once.
    count.done = Promise.resolve().then(async () => await this.#readAll(count));
    readElsewhere(count.done);
    return count;
  }

  /**
   * The value under which the count has, or will have, a record that now changes: the one in the snapshot. A write under way
   * when the count began may be in the snapshot or not, so what it found before says nothing.
   */
  #asCounted({ snapshot, touched }: Count, key: string, before: unknown): unknown {
    if (touched === undefined || touched.has(key)) return before;
    touched.add(key);
    const text = this.#deps.db.getSync(key, { snapshot });
    return text === undefined ? undefined : parsedRecord(key, text);
  }

  async #readAll(count: Count): Promise<void> {
    const { db, records } = this.#deps;
    const { snapshot } = count;
    const spaces = [...COUNTED_SPACES].sort();
    let read = 0;
    let isWhole = false;
    try {
      for await (const [key, text] of db.iterator({
        gte: spaces[0]!,
        lt: `${spaces.at(-1)}\x01`,
        snapshot,
      })) {
        // Another membership is counted by now.
        if (this.#count !== count) return;
        const at = key.indexOf('\0');
        const [space, name] = [key.slice(0, at), key.slice(at + 1)];
        const bucket = this.#countedIn(space, name);
        if (bucket !== undefined) this.#toggle(bucket, space, name, parsedRecord(key, text));
        read += 1;
        if (read % TURN === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      await records.told();
      isWhole = true;
    } finally {
      // One that failed is no count: the next call begins another.
      if (!isWhole && this.#count === count) this.#count = undefined;
      count.touched = undefined;
      await snapshot.close();
    }
  }

  /** As {@link bucketOf}; what was promised about memberships is compared with nobody, but a clean stop tells of it. */
  #countedIn(space: string, key: string): Bucket | undefined {
    if (space === AGREEMENT_SPACE) return { owners: [this.#deps.members.selfId], name: space };
    return isCountedSpace(space) ? this.bucketOf(space, key) : undefined;
  }

  #toggle({ owners, name }: Bucket, space: string, key: string, stored: unknown): void {
    let entry = this.#sums.get(name);
    if (entry === undefined) {
      entry = { owners, sum: new Uint32Array(SUM_WORDS) };
      this.#sums.set(name, entry);
    }
    const hash = createHash('sha256').update(`${space}\0${key}\0`).update(comparable(space, stored)).digest();
    for (let at = 0; at < SUM_WORDS; at++) entry.sum[at]! ^= hash.readUInt32BE(at * 4);
  }
}

/** What owners compare of a record, as canonical bytes: not how an acceptor came to its accept. */
export function comparable(space: string, stored: unknown): string {
  if (space !== 'r1') return canonicalJson(stored);
  const { heard: _, ...state } = stored as Record<string, unknown>;
  return canonicalJson(state);
}

function hex(sum: Uint32Array): string {
  return Buffer.from(sum.buffer, sum.byteOffset, sum.byteLength).toString('hex');
}
