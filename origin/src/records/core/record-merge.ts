import { standingOf } from '@sepia/records/core/set-protocol';

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
 * Merges pages that begin behind the same key. `standing` makes one of what each of them has of a key, or none.
 * Goes only as far as the shortest page that was cut: behind it an owner may know something newer.
 */
export function mergeTold<E, P extends OwnPage<E>>(
  pages: readonly P[],
  keyOf: (entry: E) => string,
  standing: (told: readonly { readonly page: P; readonly entry: E | undefined }[]) => E | undefined,
): MergedPage<E> {
  let horizon: string | undefined;
  for (const { entries, more } of pages) {
    const last = entries.at(-1);
    if (!more || last === undefined) continue;
    const key = keyOf(last);
    if (horizon === undefined || key < horizon) horizon = key;
  }
  const byPage = pages.map((page) => ({
    page,
    entries: new Map(page.entries.map((entry) => [keyOf(entry), entry])),
  }));
  const keys = [...new Set(byPage.flatMap(({ entries }) => [...entries.keys()]))]
    .filter((key) => horizon === undefined || key <= horizon)
    .sort();
  const found = keys.flatMap((key) => {
    const entry = standing(byPage.map(({ page, entries }) => ({ page, entry: entries.get(key) })));
    return entry === undefined ? [] : [entry];
  });
  return { entries: found, next: horizon };
}

/** As {@link mergeTold} where no owner lacks what was deleted: `join` makes one of two entries. */
export function mergePages<E>(
  pages: readonly OwnPage<E>[],
  keyOf: (entry: E) => string,
  join: (a: E, b: E) => E,
): MergedPage<E> {
  return mergeTold(pages, keyOf, (told) =>
    standingOf(
      told.map(({ entry }) => entry),
      join,
    ),
  );
}
