/** An empty place. */
const NONE = 0xffffffff;
const FEWEST = 8;
/** Places there are for each id at least. */
const ROOM = 1.5;

/**
 * A set of ids 0 … 2³²−2 in one array of numbers: of 15,000 nodes with 500 blobs each a `Set` is seven million pointers that
 * the garbage collector goes through while all wait. Open addressing; what is deleted leaves no gap behind.
 */
export class IdSet {
  #places = new Uint32Array(FEWEST).fill(NONE);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  has(id: number): boolean {
    return this.#places[this.#placeOf(id)] === id;
  }

  /** True if it was not there. */
  add(id: number): boolean {
    if ((this.#size + 1) * ROOM > this.#places.length) this.#resize(this.#places.length * 2);
    const place = this.#placeOf(id);
    if (this.#places[place] === id) return false;
    this.#places[place] = id;
    this.#size += 1;
    return true;
  }

  /** True if it was there. */
  delete(id: number): boolean {
    const places = this.#places;
    const mask = places.length - 1;
    let gap = this.#placeOf(id);
    if (places[gap] !== id) return false;
    // Whoever comes behind and would be looked for across the gap moves into it.
    for (let place = (gap + 1) & mask; places[place] !== NONE; place = (place + 1) & mask) {
      const home = homeOf(places[place]!, mask);
      if (((place - home) & mask) < ((place - gap) & mask)) continue;
      places[gap] = places[place]!;
      gap = place;
    }
    places[gap] = NONE;
    this.#size -= 1;
    if (places.length > FEWEST && this.#size * 6 < places.length) this.#resize(places.length / 2);
    return true;
  }

  /** All ids, as they are now: the set may be changed meanwhile. */
  values(): Uint32Array {
    return this.#places.filter((id) => id !== NONE);
  }

  #placeOf(id: number): number {
    const places = this.#places;
    const mask = places.length - 1;
    let place = homeOf(id, mask);
    while (places[place] !== NONE && places[place] !== id) place = (place + 1) & mask;
    return place;
  }

  #resize(length: number): void {
    const before = this.#places;
    this.#places = new Uint32Array(length).fill(NONE);
    for (const id of before) if (id !== NONE) this.#places[this.#placeOf(id)] = id;
  }
}

function homeOf(id: number, mask: number): number {
  return (Math.imul(id, 0x9e3779b1) >>> 7) & mask;
}
