import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { canonicalJson, type Entry, type Join, joinWhole } from '../core/join.ts';
import { isCovered, taken } from '../core/set-protocol.ts';
import type { OnRecord } from '../on-record.ts';
import type { RecordTable } from '../table/record-table.ts';

const SEPARATOR = '\0';
const AFTER_SEPARATOR = '\x01';

/** One member of a set: its value, or a tombstone, with the clock that decides between two of them. */
export interface RecordEntry<T> {
  /** The parts of its key, from the shard's (upstream, repository) on. */
  readonly key: readonly string[];
  readonly atMs: number;
  /** Undefined for a tombstone. */
  readonly value: T | undefined;
  /** Of sets that join by field: see {@link Entry}. */
  readonly fieldMs?: Readonly<Record<string, number>>;
  readonly deadMs?: number;
}

/** Where a page begins and how long it is. */
export interface RecordPage {
  /** The last part of the key to continue after. */
  readonly after?: string;
  readonly limit?: number;
}

interface Stored {
  readonly v: 1;
  readonly atMs: number;
  readonly value?: unknown;
  readonly deleted?: true;
  readonly fieldMs?: Readonly<Record<string, number>>;
  readonly deadMs?: number;
}

interface RecordSetDeps {
  readonly table: RecordTable;
  /** Hears of every change, once it is durable. */
  readonly onRecord: OnRecord;
}

/**
 * A set of records under keys of several parts, ordered by part. Entries of one key are joined: merging in any order,
 * any number of times, ends in the same bytes on every owner.
 */
export class RecordSet<T> {
  readonly #deps: RecordSetDeps;
  readonly #name: string;
  readonly #prefix: string;
  readonly #join: Join;

  /** `name` begins every key of this set in the database. `join` decides between two entries of a key. */
  constructor(deps: RecordSetDeps, name: string, join: Join = joinWhole) {
    this.#deps = deps;
    this.#name = name;
    this.#prefix = `${name}${SEPARATOR}`;
    this.#join = join;
  }

  /** Adds or replaces; false if a later entry is there. Durable when it resolves. */
  put(key: readonly string[], value: T, atMs: number): Promise<boolean> {
    return this.merge({ key, atMs, value });
  }

  /** Leaves a tombstone; false if a later entry is there. */
  delete(key: readonly string[], atMs: number): Promise<boolean> {
    return this.merge({ key, atMs, value: undefined });
  }

  /** Takes over an entry of another owner; false if it says nothing new. */
  async merge(entry: RecordEntry<T>): Promise<boolean> {
    const [isNews = false] = await this.mergeAll([entry]);
    return isNews;
  }

  /**
   * As {@link merge} for several, read at once and written in one step: which of them said something new. The caller
   * bounds how many.
   */
  async mergeAll(entries: readonly RecordEntry<T>[]): Promise<boolean[]> {
    const keys = entries.map(({ key }) => this.#keyOf(key));
    return await this.#deps.table.change(keys, (texts) => {
      const found = new Map<string, Stored | undefined>();
      for (const [index, key] of keys.entries()) found.set(key, parse(key, texts[index]));
      const news: { readonly key: string; readonly before: Stored | undefined; readonly stored: Stored }[] =
        [];
      const answer = entries.map((entry, index) => {
        const key = keys[index]!;
        const before = found.get(key);
        const stored = this.#joined(before, entry);
        if (stored === undefined) return false;
        found.set(key, stored);
        news.push({ key, before, stored });
        return true;
      });
      const writes = news.map(({ key, stored }) => ({
        type: 'put' as const,
        key,
        value: canonicalJson(stored),
      }));
      const onDurable = (): void => {
        for (const { key, before, stored } of news)
          this.#deps.onRecord(this.#name, key.slice(this.#prefix.length), before, stored);
      };
      return { writes, answer, onDurable };
    });
  }

  /** Takes a tombstone off the disk if it is still that one; for keys that are never used again. */
  async forget(key: readonly string[], atMs: number): Promise<void> {
    await this.#remove(key, (stored) => stored.deleted === true && stored.atMs === atMs);
  }

  /** Takes entries off the disk and leaves nothing: for what no other owner merges, or no other owner has. */
  async remove(...keys: readonly (readonly string[])[]): Promise<void> {
    await Promise.all(keys.map(async (key) => await this.#remove(key, () => true)));
  }

  /**
   * Takes an entry off the disk if it still is `known` and `may` says so in the same step, and leaves nothing: of a
   * shard that this origin does not own. True if it is gone.
   */
  async drop(known: RecordEntry<T>, may: () => boolean): Promise<boolean> {
    const text = canonicalJson(storedOf(clocksOf(known)));
    return await this.#remove(known.key, (stored) => canonicalJson(stored) === text && may());
  }

  /** True if what is here covers `theirs`, see {@link isCovered}. */
  async covers(theirs: RecordEntry<T>): Promise<boolean> {
    const own = await this.entry(theirs.key);
    return isCovered(own && clocksOf(own), clocksOf(theirs), this.#join);
  }

  /** The value, undefined if it is not there or deleted. */
  async get(key: readonly string[]): Promise<T | undefined> {
    const text = this.#keyOf(key);
    return parse(text, await this.#deps.table.get(text))?.value as T | undefined;
  }

  /** As {@link get}, with its clock; a tombstone has no value. */
  async entry(key: readonly string[]): Promise<RecordEntry<T> | undefined> {
    const text = this.#keyOf(key);
    const stored = parse(text, await this.#deps.table.get(text));
    return stored && recordOf<T>(key, stored);
  }

  /** As {@link entry} for several, in their order; the caller bounds how many. */
  async entriesOf(keys: readonly (readonly string[])[]): Promise<(RecordEntry<T> | undefined)[]> {
    const texts = keys.map((key) => this.#keyOf(key));
    const found = await this.#deps.table.getMany(texts);
    return keys.map((key, index) => {
      const stored = parse(texts[index]!, found[index]);
      return stored && recordOf<T>(key, stored);
    });
  }

  async has(key: readonly string[]): Promise<boolean> {
    return (await this.get(key)) !== undefined;
  }

  /** Values below `prefix` (whole parts), in order of their keys. */
  async *list(
    prefix: readonly string[],
    page: RecordPage = {},
  ): AsyncGenerator<{ key: readonly string[]; value: T }, void, void> {
    let left = page.limit ?? Number.POSITIVE_INFINITY;
    if (left <= 0) return;
    for await (const { key, value } of this.entries(prefix, page.after)) {
      if (value === undefined) continue;
      yield { key, value };
      left -= 1;
      if (left <= 0) return;
    }
  }

  /** Values and tombstones below `prefix`; for repair and moves. */
  async *entries(prefix: readonly string[], after?: string): AsyncGenerator<RecordEntry<T>, void, void> {
    const base = prefix.length === 0 ? this.#prefix : `${this.#keyOf(prefix)}${SEPARATOR}`;
    const lower = after === undefined ? { gte: base } : { gte: `${base}${after}${AFTER_SEPARATOR}` };
    const range = { ...lower, lt: `${base.slice(0, -1)}${AFTER_SEPARATOR}` };
    for await (const [key, text] of this.#deps.table.entries(range)) {
      const stored = parse(key, text);
      if (stored === undefined) continue;
      yield recordOf<T>(key.slice(this.#prefix.length).split(SEPARATOR), stored);
    }
  }

  /** What is stored once `entry` is taken over; undefined if it says nothing new. */
  #joined(before: Stored | undefined, entry: RecordEntry<T>): Stored | undefined {
    const joined = taken(before && entryOf(before), clocksOf(entry), this.#join);
    return joined && storedOf(joined);
  }

  /** True if nothing is there any more. */
  async #remove(parts: readonly string[], isMeant: (stored: Stored) => boolean): Promise<boolean> {
    const key = this.#keyOf(parts);
    return await this.#deps.table.change([key], ([text]) => {
      const stored = parse(key, text);
      if (stored === undefined) return { writes: [], answer: true };
      if (!isMeant(stored)) return { writes: [], answer: false };
      const onDurable = (): void =>
        this.#deps.onRecord(this.#name, key.slice(this.#prefix.length), stored, undefined);
      return { writes: [{ type: 'del', key }], answer: true, onDurable };
    });
  }

  #keyOf(parts: readonly string[]): string {
    for (const part of parts)
      if (part === '' || part.includes(SEPARATOR) || part.includes(AFTER_SEPARATOR))
        throw new TypeError(`key part ${JSON.stringify(part)}`);
    return this.#prefix + parts.join(SEPARATOR);
  }
}

function recordOf<T>(key: readonly string[], { atMs, value, fieldMs, deadMs }: Stored): RecordEntry<T> {
  const clocks = { ...defined('fieldMs', fieldMs), ...defined('deadMs', deadMs) };
  return { key, atMs, value: value as T | undefined, ...clocks };
}

/** An entry without its key. */
function clocksOf({ atMs, value, fieldMs, deadMs }: RecordEntry<unknown>): Entry {
  return { atMs, value, ...defined('fieldMs', fieldMs), ...defined('deadMs', deadMs) };
}

function entryOf({ v: _, deleted: __, ...entry }: Stored): Entry {
  return entry;
}

function storedOf({ value, ...entry }: Entry): Stored {
  return { v: 1, ...entry, ...(value === undefined ? { deleted: true } : { value }) };
}

function defined<K extends string, V>(key: K, value: V | undefined): { readonly [k in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { readonly [k in K]?: V });
}

function parse(key: string, text: string | undefined): Stored | undefined {
  if (text === undefined) return undefined;
  let stored: Partial<Stored> | null;
  try {
    stored = JSON.parse(text) as Partial<Stored> | null;
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('DISK_CORRUPT', { detail: { key }, cause });
  }
  if (stored?.v === 1 && typeof stored.atMs === 'number') return stored as Stored;
  throw new CodedError('DISK_FORMAT', { detail: { key, found: stored?.v } });
}
