/** Share of a handout that peers of the asker's own zone may take, so that a zone never cuts itself off. */
const ZONE_SHARE = 0.75;

/** Draws a number in [0, 1); seeded in tests and simulations. */
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

/** Items that can be drawn one by one, and how many there are. */
export interface Deck<T> {
  readonly count: number;
  readonly draw: () => T | undefined;
}

/**
 * Each call draws one from either deck, as if both had been shuffled into one: whose turn it is falls by how many are left
 * in each. Undefined once there is none.
 */
export function drawFrom<T>(first: Deck<T>, second: Deck<T>, chance: Chance): () => T | undefined {
  let [ofFirst, ofSecond] = [first.count, second.count];
  return () => {
    const left = ofFirst + ofSecond;
    if (left === 0) return undefined;
    const isFirst = ofSecond === 0 || (ofFirst > 0 && chance() * left < ofFirst);
    if (isFirst) ofFirst -= 1;
    else ofSecond -= 1;
    return (isFirst ? first : second).draw();
  };
}

/**
 * The first `count` of what `next` gives, as {@link preferZone} has them; no more of them are asked for than it takes to
 * know which those are.
 */
export function firstOf<T extends { zone?: string | undefined }>(
  next: () => T | undefined,
  zone: string | undefined,
  count: number,
): T[] {
  const items: T[] = [];
  const nearMost = nearShare(count);
  let near = 0;
  const isEnough = (): boolean =>
    zone === undefined
      ? items.length >= count
      : items.length > count && near >= nearMost && items.length - near >= count - nearMost;
  while (!isEnough()) {
    const item = next();
    if (item === undefined) break;
    items.push(item);
    if (item.zone === zone) near += 1;
  }
  return zone === undefined ? items : preferZone(items, zone, count);
}

/** The first `count` items, at most three quarters of them from `zone` while others are there; order is kept otherwise. */
function preferZone<T extends { zone?: string | undefined }>(
  items: readonly T[],
  zone: string,
  count: number,
): T[] {
  if (items.length <= count) return items.slice(0, count);
  const near = items.filter((item) => item.zone === zone);
  const far = items.filter((item) => item.zone !== zone);
  const nearTake = Math.min(near.length, Math.max(nearShare(count), count - far.length));
  return [...near.slice(0, nearTake), ...far.slice(0, count - nearTake)];
}

function nearShare(count: number): number {
  return Math.ceil(count * ZONE_SHARE);
}
