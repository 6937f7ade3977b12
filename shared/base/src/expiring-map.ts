import { LatestMap } from './latest-map.ts';

/** A map of at most `limit` entries that forget themselves at their time; the oldest go first. Pure: time is passed in, in ms. */
export class ExpiringMap<V> {
  readonly #entries: LatestMap<string, { readonly value: V; readonly untilMs: number }>;

  constructor(limit: number) {
    this.#entries = new LatestMap(limit);
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: string, nowMs: number): V | undefined {
    const found = this.#entries.get(key);
    if (found === undefined) return undefined;
    if (found.untilMs > nowMs) return found.value;
    this.#entries.delete(key);
    return undefined;
  }

  /** Ms that an entry has left, 0 if there is none. */
  leftMs(key: string, nowMs: number): number {
    return Math.max(0, (this.#entries.get(key)?.untilMs ?? 0) - nowMs);
  }

  set(key: string, value: V, untilMs: number): void {
    this.#entries.set(key, { value, untilMs });
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }
}
