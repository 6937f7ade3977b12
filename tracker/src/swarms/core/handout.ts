/** Share of a handout that peers of the asker's own zone may take, so that a zone never cuts itself off. */
const ZONE_SHARE = 0.75;

/** A number in [0, 1). */
export type Chance = () => number;

/** At most `count` of `items` in random order; `items` is reordered. */
export function sample<T>(items: T[], count: number, chance: Chance): T[] {
  const take = Math.min(count, items.length);
  for (let at = 0; at < take; at++) {
    const other = at + Math.floor(chance() * (items.length - at));
    [items[at], items[other]] = [items[other]!, items[at]!];
  }
  return items.slice(0, take);
}

/** The first `count` items, at most three quarters of them from `zone` while others are there; order is kept otherwise. */
export function preferZone<T extends { zone: string | undefined }>(
  items: readonly T[],
  zone: string | undefined,
  count: number,
): T[] {
  if (zone === undefined || items.length <= count) return items.slice(0, count);
  const near = items.filter((item) => item.zone === zone);
  const far = items.filter((item) => item.zone !== zone);
  const nearTake = Math.min(near.length, Math.max(Math.ceil(count * ZONE_SHARE), count - far.length));
  return [...near.slice(0, nearTake), ...far.slice(0, count - nearTake)];
}
