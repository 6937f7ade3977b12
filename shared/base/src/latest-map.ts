/**
 * A map of at most `limit` entries that lets go of the one that was set longest ago. Reading an entry does not renew it,
 * setting it does; a caller whose reads shall count sets what it has read.
 */
export class LatestMap<K, V> extends Map<K, V> {
  readonly #limit: number;

  constructor(limit: number) {
    super();
    this.#limit = limit;
  }

  override set(key: K, value: V): this {
    this.delete(key);
    super.set(key, value);
    if (this.size > this.#limit) this.delete(this.keys().next().value as K);
    return this;
  }
}
