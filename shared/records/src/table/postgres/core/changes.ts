import type { Write } from '../../record-table.ts';

/** A change of the text under a key; an undefined text: there is none. */
export interface Change {
  readonly key: string;
  readonly old: string | undefined;
  readonly value: string | undefined;
}

/** What `writes` change of what was `found`; the last write of a key counts. Pure. */
export function changesOf(
  found: ReadonlyMap<string, string | undefined>,
  writes: readonly Write[],
): Change[] {
  const last = new Map(writes.map((one) => [one.key, one.type === 'put' ? one.value : undefined]));
  return [...last]
    .map(([key, value]) => ({ key, old: found.get(key), value }))
    .filter(({ old, value }) => old !== value);
}

/** True if all of `changes` are made in what is `found` now. Pure. */
export function areMade(changes: readonly Change[], found: ReadonlyMap<string, string | undefined>): boolean {
  return changes.every(({ key, value }) => found.get(key) === value);
}
