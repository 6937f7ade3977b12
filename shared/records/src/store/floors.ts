import { CodedError, laterFormat } from '@sepia/base/errors';
import { type Floor, higherFloor, NO_FLOOR } from '../core/floor.ts';
import type { OnRecord } from '../on-record.ts';
import type { RecordTable } from '../table/record-table.ts';
import { parsedRecord } from './record-dump.ts';

/** Key space of the floors, one for each (upstream, repository): up to where its deletes need no tombstones. */
export const FLOOR_SPACE = 'g1';
/** Key spaces of the sets whose tombstones go below them. */
export const FLOORED_SPACES = ['l1', 'f1', 'p1'] as const;
/** A key space whose tombstones go below a floor, see {@link FLOORED_SPACES}. */
export type FlooredSpace = (typeof FLOORED_SPACES)[number];

/** True for a space of records whose tombstones go below a floor (docs/adr/0072-the-end-of-tombstones.md). */
export function isFloored(space: string): space is FlooredSpace {
  return (FLOORED_SPACES as readonly string[]).includes(space);
}

const SEPARATOR = '\0';
const PREFIX = `${FLOOR_SPACE}${SEPARATOR}`;

interface StoredFloor extends Floor {
  readonly v: 1;
}

/**
 * Floors of this origin's repositories, or of those in a shared table, as they rest and in memory. A promise is in memory before it is on the disk, so
 * that nothing older is decided any more when it is durable; what is agreed is there after it. ADR 0072.
 */
export class Floors {
  readonly #deps: { readonly table: RecordTable; readonly onRecord: OnRecord };
  readonly #known = new Map<string, Floor>();
  /** Floors that are being taken over from another owner: until they are, nothing below them comes from elsewhere. */
  readonly #coming = new Map<string, number>();

  constructor(deps: { readonly table: RecordTable; readonly onRecord: OnRecord }) {
    this.#deps = deps;
  }

  /** Reads them; before anything else is read or written. */
  async load(): Promise<void> {
    this.#known.clear();
    for await (const [key, text] of this.#deps.table.entries({ gte: PREFIX, lt: `${FLOOR_SPACE}\x01` }))
      this.#known.set(key.slice(PREFIX.length), floorOf(key, text));
  }

  get size(): number {
    return this.#known.size;
  }

  /** Where others raise floors too: keys that a change of `keys` reads beside, for {@link heard}. */
  beside(keys: readonly (readonly string[])[]): string[] {
    if (!this.#deps.table.isShared) return [];
    return [...new Set(keys.map((key) => PREFIX + nameOf(key)))];
  }

  /** What a change found under {@link beside} keys: no tombstone is gone that is not below these. */
  heard(keys: readonly string[], texts: readonly (string | undefined)[]): void {
    for (const [index, key] of keys.entries()) {
      const text = texts[index];
      const name = key.slice(PREFIX.length);
      if (text !== undefined)
        this.#known.set(name, higherFloor(this.#known.get(name) ?? NO_FLOOR, floorOf(key, text)));
    }
  }

  /** The floor of the repository that `key` begins with. */
  of(key: readonly string[]): Floor {
    return this.#known.get(nameOf(key)) ?? NO_FLOOR;
  }

  /** Clock up to which an entry that is missing here is not taken from an owner with a lower floor. */
  closedMs(key: readonly string[]): number {
    return Math.max(this.of(key).agreedMs, this.#coming.get(nameOf(key)) ?? 0);
  }

  /** From its call on, writes up to `atMs` are refused; when it resolves it is durable, as is all that was taken before. */
  async promise(key: readonly string[], atMs: number): Promise<void> {
    const promise = { promisedMs: atMs, agreedMs: 0 };
    this.#note(key, promise);
    await this.#raise(key, promise);
  }

  /** All owners had the same up to `atMs`. Durable when it resolves. */
  async agree(key: readonly string[], atMs: number): Promise<void> {
    const agreed = { promisedMs: atMs, agreedMs: atMs };
    await this.#raise(key, agreed);
    this.#note(key, agreed);
  }

  /**
   * Takes a floor of another owner over. Where its agreed one is higher, `work` first takes over all that it has of the
   * repository, and drops what it has not.
   */
  async takeOver(key: readonly string[], theirs: Floor, work: () => Promise<void>): Promise<void> {
    const name = nameOf(key);
    if (theirs.agreedMs <= this.of(key).agreedMs) return await this.promise(key, theirs.promisedMs);
    if (this.#coming.has(name))
      throw new CodedError('CONFLICT', { message: 'a floor of this repository is being taken over' });
    this.#coming.set(name, theirs.agreedMs);
    try {
      await this.promise(key, theirs.promisedMs);
      await work();
      await this.agree(key, theirs.agreedMs);
    } finally {
      this.#coming.delete(name);
    }
  }

  /** Of a repository that other origins own. */
  async forget(key: readonly string[]): Promise<void> {
    const name = nameOf(key);
    const full = PREFIX + name;
    this.#known.delete(name);
    await this.#deps.table.change([full], ([text]) => {
      if (text === undefined) return { writes: [], answer: undefined };
      const onDurable = (): void =>
        this.#deps.onRecord(FLOOR_SPACE, name, parsedRecord(full, text), undefined);
      return { writes: [{ type: 'del', key: full }], answer: undefined, onDurable };
    });
  }

  /** Names (upstream, repository) and floors, in no order. */
  *list(): Generator<
    readonly [key: readonly [upstream: string, repository: string], floor: Floor],
    void,
    void
  > {
    for (const [name, floor] of this.#known) {
      const [upstream = '', repository = ''] = name.split(SEPARATOR);
      yield [[upstream, repository], floor];
    }
  }

  #note(key: readonly string[], floor: Floor): void {
    this.#known.set(nameOf(key), higherFloor(this.of(key), floor));
  }

  async #raise(key: readonly string[], by: Floor): Promise<void> {
    const name = nameOf(key);
    const full = PREFIX + name;
    await this.#deps.table.change([full], ([text]) => {
      const before = text === undefined ? undefined : floorOf(full, text);
      const next = higherFloor(before ?? NO_FLOOR, by);
      if (before?.promisedMs === next.promisedMs && before.agreedMs === next.agreedMs)
        return { writes: [], answer: undefined };
      const stored: StoredFloor = { v: 1, ...next };
      const onDurable = (): void =>
        this.#deps.onRecord(FLOOR_SPACE, name, before && { v: 1, ...before }, stored);
      return {
        writes: [{ type: 'put', key: full, value: JSON.stringify(stored) }],
        answer: undefined,
        onDurable,
      };
    });
  }
}

function nameOf([upstream = '', repository = '']: readonly string[]): string {
  return `${upstream}${SEPARATOR}${repository}`;
}

/** @throws `DISK_CORRUPT`, `DISK_FORMAT` */
function floorOf(key: string, text: string): Floor {
  const { v, promisedMs, agreedMs } = (parsedRecord(key, text) ?? {}) as Partial<StoredFloor>;
  if (v === 1 && typeof promisedMs === 'number' && typeof agreedMs === 'number')
    return { promisedMs, agreedMs };
  throw laterFormat('a floor', v, 1, { key });
}
