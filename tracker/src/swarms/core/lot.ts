import type { Chance } from './handout.ts';

/** A set of which some can be drawn by lot, in a time that does not grow with its size. */
export class Lot<T> {
  readonly #items: T[] = [];
  readonly #places = new Map<T, number>();

  get size(): number {
    return this.#items.length;
  }

  has(item: T): boolean {
    return this.#places.has(item);
  }

  add(item: T): void {
    if (this.#places.has(item)) return;
    this.#places.set(item, this.#items.length);
    this.#items.push(item);
  }

  delete(item: T): void {
    const place = this.#places.get(item);
    if (place === undefined) return;
    this.#places.delete(item);
    const last = this.#items.pop()!;
    if (last === item) return;
    this.#items[place] = last;
    this.#places.set(last, place);
  }

  /** At most `count` different ones, in random order. */
  draw(count: number, chance: Chance): T[] {
    const next = this.drawing(chance);
    return Array.from({ length: Math.min(count, this.#items.length) }, () => next()!);
  }

  /** Each call draws one more of those that were not drawn yet; undefined once there is none. Nothing may be changed meanwhile. */
  drawing(chance: Chance): () => T | undefined {
    const items = this.#items;
    // Those that a shuffle of the whole would have moved so far, by place.
    const moved = new Map<number, T>();
    let at = 0;
    return () => {
      if (at >= items.length) return undefined;
      const other = at + Math.floor(chance() * (items.length - at));
      const drawn = moved.get(other) ?? items[other]!;
      moved.set(other, moved.get(at) ?? items[at]!);
      at += 1;
      return drawn;
    };
  }
}
