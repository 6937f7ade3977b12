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
 * Merges pages that begin behind the same key. Where owners differ `join` makes one of two entries.
 * Goes only as far as the shortest page that was cut: behind it an owner may know something newer.
 */
export function mergePages<E>(
  pages: readonly OwnPage<E>[],
  keyOf: (entry: E) => string,
  join: (a: E, b: E) => E,
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
    byKey.set(key, known === undefined ? entry : join(known, entry));
  }
  const keys = [...byKey.keys()].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  return { entries: keys.map((key) => byKey.get(key)!), next: horizon };
}
