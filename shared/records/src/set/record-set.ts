import type { KeyedLocks } from '@sepia/base/async/keyed-locks';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Database } from '@sepia/store/data-folder';
import type { GroupCommit } from '../group-commit.ts';

const SEPARATOR = '\0';
const AFTER_SEPARATOR = '\x01';

/** One member of a set: its value, or a tombstone, with the clock that decides between two of them. */
export interface RecordEntry<T> {
  /** The parts of its key, from the shard's (upstream, repository) on. */
  readonly key: readonly string[];
  readonly atMs: number;
  /** Undefined for a tombstone. */
  readonly value: T | undefined;
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
}

/**
 * A set of records under keys of several parts, ordered by part. Of two entries of one key the later clock wins, a
 * tombstone at the same time: merging in any order ends the same on every owner.
 */
export class RecordSet<T> {
  readonly #deps: {
    readonly db: Database;
    readonly commits: GroupCommit;
    readonly locks: KeyedLocks<string>;
  };
  readonly #prefix: string;

  /** `name` begins every key of this set in the database. */
  constructor(
    deps: { readonly db: Database; readonly commits: GroupCommit; readonly locks: KeyedLocks<string> },
    name: string,
  ) {
    this.#deps = deps;
    this.#prefix = `${name}${SEPARATOR}`;
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
  merge(entry: RecordEntry<T>): Promise<boolean> {
    const key = this.#keyOf(entry.key);
    return this.#deps.locks.run(key, async () => {
      const before = parse(key, await this.#deps.db.get(key));
      const now: Stored = {
        v: 1,
        atMs: entry.atMs,
        ...(entry.value === undefined ? { deleted: true } : { value: entry.value }),
      };
      if (before !== undefined && !supersedes(now, before)) return false;
      await this.#deps.commits.write({ type: 'put', key, value: JSON.stringify(now) });
      return true;
    });
  }

  /** Takes a tombstone off the disk if it is still that one; for keys that are never used again. */
  async forget(key: readonly string[], atMs: number): Promise<void> {
    const text = this.#keyOf(key);
    await this.#deps.locks.run(text, async () => {
      const stored = parse(text, await this.#deps.db.get(text));
      if (stored?.deleted === true && stored.atMs === atMs)
        await this.#deps.commits.write({ type: 'del', key: text });
    });
  }

  /** Takes entries off the disk and leaves nothing: for queues of this origin alone, which no other owner merges. */
  async remove(...keys: readonly (readonly string[])[]): Promise<void> {
    const texts = keys.map((key) => this.#keyOf(key));
    if (texts.length === 1)
      await this.#deps.locks.run(texts[0]!, () => this.#deps.commits.write({ type: 'del', key: texts[0]! }));
    else await this.#deps.commits.write(...texts.map((key) => ({ type: 'del' as const, key })));
  }

  /** The value, undefined if it is not there or deleted. */
  async get(key: readonly string[]): Promise<T | undefined> {
    const text = this.#keyOf(key);
    return parse(text, await this.#deps.db.get(text))?.value as T | undefined;
  }

  /** As {@link get}, with its clock; a tombstone has no value. */
  async entry(key: readonly string[]): Promise<RecordEntry<T> | undefined> {
    const text = this.#keyOf(key);
    const stored = parse(text, await this.#deps.db.get(text));
    return stored && { key, atMs: stored.atMs, value: stored.value as T | undefined };
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
    for await (const [key, text] of this.#deps.db.iterator(range)) {
      const stored = parse(key, text);
      if (stored === undefined) continue;
      yield {
        key: key.slice(this.#prefix.length).split(SEPARATOR),
        atMs: stored.atMs,
        value: stored.value as T | undefined,
      };
    }
  }

  #keyOf(parts: readonly string[]): string {
    for (const part of parts)
      if (part === '' || part.includes(SEPARATOR) || part.includes(AFTER_SEPARATOR))
        throw new TypeError(`key part ${JSON.stringify(part)}`);
    return this.#prefix + parts.join(SEPARATOR);
  }
}

function supersedes(now: Stored, before: Stored): boolean {
  if (now.atMs !== before.atMs) return now.atMs > before.atMs;
  if (now.deleted !== before.deleted) return now.deleted === true;
  return JSON.stringify(now.value) > JSON.stringify(before.value);
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
