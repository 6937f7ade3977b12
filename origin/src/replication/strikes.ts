import { LatestMap } from '@sepia/base/latest-map';

/** How often something failed in a row; of more than `limit` the one that failed longest ago is forgotten. */
export class Strikes {
  readonly #counts: Map<string, number>;

  constructor(options: { readonly limit: number }) {
    this.#counts = new LatestMap(options.limit);
  }

  /** One more; returns how many it were. */
  add(key: string): number {
    const count = (this.#counts.get(key) ?? 0) + 1;
    this.#counts.set(key, count);
    return count;
  }

  /** It went well. True if it had failed before. */
  delete(key: string): boolean {
    return this.#counts.delete(key);
  }

  clear(): void {
    this.#counts.clear();
  }
}
