/** Spans that are fetched in one request, by the 0-based numbers of the first and the last of them. */
export interface Run {
  readonly first: number;
  readonly last: number;
}

/**
 * Joins ascending span numbers that are neighbours into runs, none longer than `most` spans: one range of the blob
 * instead of many.
 */
export function runsOf(spans: readonly number[], most: number): Run[] {
  const runs: { first: number; last: number }[] = [];
  for (const span of spans) {
    const open = runs.at(-1);
    if (open !== undefined && span === open.last + 1 && span - open.first < most) open.last = span;
    else runs.push({ first: span, last: span });
  }
  return runs;
}
