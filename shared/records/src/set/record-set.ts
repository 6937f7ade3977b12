import { CodedError, laterFormat } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { optional } from '@sepia/base/json/plain-object';
import { behindFloor, buriedAt, type Floor, mayGo, NO_FLOOR, NOBODY_MS, takenAbove } from '../core/floor.ts';
import { canonicalJson, type Entry, type Join, joinWhole } from '../core/join.ts';
import { taken } from '../core/set-protocol.ts';
import type { OnRecord } from '../on-record.ts';
import type { RecordTable, TableStep } from '../table/record-table.ts';

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

/** What became of a write to a set of records. */
export interface Put {
  readonly isNews: boolean;
  /** What is there now. */
  readonly standing: Entry | undefined;
  /** Set where the write was refused: it needs a clock later than this. */
  readonly behindMs: number | undefined;
}

/** The floors that entries of a set stand above. */
interface SetFloors {
  of(key: readonly string[]): Floor;
  closedMs(key: readonly string[]): number;
  beside(keys: readonly (readonly string[])[]): readonly string[];
  heard(keys: readonly string[], texts: readonly (string | undefined)[]): void;
}

const WITHOUT_FLOORS: SetFloors = {
  of: () => NO_FLOOR,
  closedMs: () => 0,
  beside: () => [],
  heard: () => undefined,
};

interface RecordSetDeps {
  readonly table: RecordTable;
  /** Of its repositories; none: its tombstones stay. */
  readonly floors?: SetFloors;
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
  readonly #floors: SetFloors;

  /** `name` begins every key of this set in the database. `join` decides between two entries of a key. */
  constructor(deps: RecordSetDeps, name: string, join: Join = joinWhole) {
    this.#deps = deps;
    this.#name = name;
    this.#prefix = `${name}${SEPARATOR}`;
    this.#join = join;
    this.#floors = deps.floors ?? WITHOUT_FLOORS;
  }

  /** The agreed floor of a key's repository: what is not here, and not above it, was deleted. */
  agreedMs(key: readonly string[]): number {
    return this.#floors.of(key).agreedMs;
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
   * bounds how many. `theirsMs`: the floor of the owner that has them; by default they are nobody's.
   */
  async mergeAll(entries: readonly RecordEntry<T>[], theirsMs = NOBODY_MS): Promise<boolean[]> {
    return await this.#changeAll(entries, (entry, before) => {
      const next = this.#taken(entry.key, before, clocksOf(entry), theirsMs);
      return { next, answer: next !== undefined };
    });
  }

  /** Takes writes: as {@link mergeAll}, but what a floor stands against is refused, and not passed over. */
  async putAll(entries: readonly RecordEntry<T>[]): Promise<Put[]> {
    return await this.#changeAll(entries, (entry, before) => {
      const floor = this.#floors.of(entry.key);
      const write = clocksOf(entry);
      const own = { entry: before, agreedMs: floor.agreedMs };
      const next = takenAbove(own, { entry: write, agreedMs: NOBODY_MS }, this.#join);
      const behindMs = behindFloor(floor, before, write, next);
      if (behindMs !== undefined)
        return { next: undefined, answer: { isNews: false, standing: before, behindMs } };
      const answer: Put = { isNews: next !== undefined, standing: next ?? before, behindMs };
      return { next, answer };
    });
  }

  /** Leaves tombstones for what a garbage collection saw at these clocks, where nothing later is there: {@link buriedAt}. */
  async buryAll(
    dead: readonly { readonly key: readonly string[]; readonly atMs: number }[],
  ): Promise<boolean[]> {
    return await this.#changeAll(dead, ({ key, atMs }, before) => {
      const graveMs = buriedAt(this.#floors.of(key), before, atMs);
      const next = graveMs === undefined ? undefined : taken(before, { atMs: graveMs }, this.#join);
      return { next, answer: next !== undefined };
    });
  }

  /** Changes entries in one atomic step. `step` sees what is stored and returns what shall be; `next` undefined: no change. */
  async #changeAll<E extends { readonly key: readonly string[] }, A>(
    wanted: readonly E[],
    step: (one: E, before: Entry | undefined) => { readonly next: Entry | undefined; readonly answer: A },
  ): Promise<A[]> {
    const keys = wanted.map(({ key }) => this.#keyOf(key));
    return await this.#change(
      keys,
      wanted.map(({ key }) => key),
      (texts) => {
        const found = new Map<string, Stored | undefined>();
        for (const [index, key] of keys.entries()) found.set(key, parse(key, texts[index]));
        const news: { readonly key: string; readonly before: Stored | undefined; readonly stored: Stored }[] =
          [];
        const answer = wanted.map((one, index) => {
          const key = keys[index]!;
          const before = found.get(key);
          const made = step(one, before && entryOf(before));
          if (made.next === undefined) return made.answer;
          const stored = storedOf(made.next);
          found.set(key, stored);
          news.push({ key, before, stored });
          return made.answer;
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
      },
    );
  }

  /** As the table's, under the floors of that moment: in a shared table others raise them too. */
  async #change<A>(
    full: readonly string[],
    keys: readonly (readonly string[])[],
    step: (texts: readonly (string | undefined)[]) => TableStep<A>,
  ): Promise<A> {
    const beside = this.#floors.beside(keys);
    const change = (texts: readonly (string | undefined)[]): TableStep<A> => {
      this.#floors.heard(beside, texts.slice(full.length));
      return step(texts);
    };
    return await this.#deps.table.change(full, change, beside);
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

  /**
   * Takes entries off the disk that `isGone` says are, as they are in that step and under the floor of then, and leaves
   * nothing; the caller bounds how many. How many went.
   */
  async dropAll(
    keys: readonly (readonly string[])[],
    isGone: (entry: Entry, floor: Floor) => boolean,
  ): Promise<number> {
    const full = keys.map((key) => this.#keyOf(key));
    return await this.#change(full, keys, (texts) => {
      const gone = full.flatMap((key, index) => {
        const stored = parse(key, texts[index]);
        const isMeant = stored !== undefined && isGone(entryOf(stored), this.#floors.of(keys[index]!));
        return isMeant ? [{ key, stored }] : [];
      });
      const writes = gone.map(({ key }) => ({ type: 'del' as const, key }));
      const onDurable = (): void => {
        for (const { key, stored } of gone)
          this.#deps.onRecord(this.#name, key.slice(this.#prefix.length), stored, undefined);
      };
      return { writes, answer: gone.length, onDurable };
    });
  }

  /** True if nothing is lost where a former owner drops `theirs`: what is here, or the floor, says the same or more. ADR 0071. */
  async covers(theirs: RecordEntry<T>): Promise<boolean> {
    const found = await this.entry(theirs.key);
    const own = { entry: found && clocksOf(found), agreedMs: this.agreedMs(theirs.key) };
    return takenAbove(own, { entry: clocksOf(theirs), agreedMs: NOBODY_MS }, this.#join) === undefined;
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
    for await (const [key, text] of this.#deps.table.entries(this.#rangeOf(prefix, after))) {
      const stored = parse(key, text);
      if (stored === undefined) continue;
      yield recordOf<T>(key.slice(this.#prefix.length).split(SEPARATOR), stored);
    }
  }

  /**
   * Tombstones below `prefix`. Live entries are passed over by their text: nothing but a field of the stored record itself
   * is written so, for quotes within a value are escaped.
   */
  async *tombstones(prefix: readonly string[]): AsyncGenerator<RecordEntry<T> | undefined, void, void> {
    for await (const [key, text] of this.#deps.table.entries(this.#rangeOf(prefix))) {
      const stored = text.includes('"deleted":true') ? parse(key, text) : undefined;
      const isDead = stored !== undefined && stored.value === undefined;
      yield isDead ? recordOf<T>(key.slice(this.#prefix.length).split(SEPARATOR), stored) : undefined;
    }
  }

  #rangeOf(prefix: readonly string[], after?: string): { gte: string; lt: string } {
    const base = prefix.length === 0 ? this.#prefix : `${this.#keyOf(prefix)}${SEPARATOR}`;
    const gte = after === undefined ? base : `${base}${after}${AFTER_SEPARATOR}`;
    return { gte, lt: `${base.slice(0, -1)}${AFTER_SEPARATOR}` };
  }

  /** What is there once `theirs` is taken over; undefined if it says nothing new, or is a tombstone that would go at once. */
  #taken(
    key: readonly string[],
    before: Entry | undefined,
    theirs: Entry,
    theirsMs: number,
  ): Entry | undefined {
    const own = { entry: before, agreedMs: this.#floors.closedMs(key) };
    const next = takenAbove(own, { entry: theirs, agreedMs: theirsMs }, this.#join);
    const goes = next !== undefined && before === undefined && mayGo(next, this.#floors.of(key));
    return goes ? undefined : next;
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
  const clocks = { ...optional('fieldMs', fieldMs), ...optional('deadMs', deadMs) };
  return { key, atMs, value: value as T | undefined, ...clocks };
}

/** An entry without its key. */
function clocksOf({ atMs, value, fieldMs, deadMs }: RecordEntry<unknown>): Entry {
  return { atMs, value, ...optional('fieldMs', fieldMs), ...optional('deadMs', deadMs) };
}

function entryOf({ v: _, deleted: __, ...entry }: Stored): Entry {
  return entry;
}

function storedOf({ value, ...entry }: Entry): Stored {
  return { v: 1, ...entry, ...(value === undefined ? { deleted: true } : { value }) };
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
  throw laterFormat('a record', stored?.v, 1, { key });
}
