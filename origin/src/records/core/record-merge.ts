/** What one owner has behind a key: entries in key order, and whether there are more behind them. */
export interface OwnPage<E> {
  readonly entries: readonly E[];
  readonly more: boolean;
}

/** Entries of several owners, one per key; `next` is the key to go on after, if there is more. */
export interface MergedPage<E> {
  readonly entries: readonly E[];
  readonly next: string | undefined;
}

/**
 * Merges pages that begin behind the same key. Where owners differ `isNewer(a, b)` says whether `a` replaces `b`.
 * Goes only as far as the shortest page that was cut: behind it an owner may know something newer.
 */
export function mergePages<E>(
  pages: readonly OwnPage<E>[],
  keyOf: (entry: E) => string,
  isNewer: (a: E, b: E) => boolean,
): MergedPage<E> {
  let horizon: string | undefined;
  for (const { entries, more } of pages) {
    const last = entries.at(-1);
    if (!more || last === undefined) continue;
    const key = keyOf(last);
    if (horizon === undefined || key < horizon) horizon = key;
  }
  const byKey = new Map<string, E>();
  for (const entry of pages.flatMap((page) => page.entries)) {
    const key = keyOf(entry);
    if (horizon !== undefined && key > horizon) continue;
    const known = byKey.get(key);
    if (known === undefined || isNewer(entry, known)) byKey.set(key, entry);
  }
  const keys = [...byKey.keys()].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  return { entries: keys.map((key) => byKey.get(key)!), next: horizon };
}

/** A record with its clock; without value it is a tombstone. */
export interface Clocked {
  readonly atMs: number;
  readonly value?: unknown;
}

/** The later clock wins, a tombstone at the same time: as every owner's own merge does. */
export function isLater(a: Clocked, b: Clocked): boolean {
  return a.atMs === b.atMs ? a.value === undefined && b.value !== undefined : a.atMs > b.atMs;
}

/** The entry that stands, of what owners answered. */
export function latest<E extends Clocked>(answers: readonly (E | undefined)[]): E | undefined {
  let found: E | undefined;
  for (const one of answers) {
    if (one !== undefined && (found === undefined || isLater(one, found))) found = one;
  }
  return found;
}

/**
 * The clock of an entry that stands in the way of another: a tombstone of a put, a value of a delete. A later entry
 * of the same kind is no hindrance.
 */
export function hindrance(wanted: Clocked, standing: Clocked | undefined): number | undefined {
  if (standing === undefined || standing.atMs < wanted.atMs) return undefined;
  const isOther = (standing.value === undefined) !== (wanted.value === undefined);
  return isOther ? standing.atMs : undefined;
}

/** Answers that a read needs, so that one of them knows of every write that `writeQuorum` owners took. */
export function readQuorum(owners: number, writeQuorum: number): number {
  return owners - writeQuorum + 1;
}
