/** How often something failed in a row. */
export class Strikes {
  readonly #counts = new Map<string, number>();

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

  /** Forgets all but these. */
  keep(keys: ReadonlySet<string>): void {
    for (const key of [...this.#counts.keys()]) if (!keys.has(key)) this.#counts.delete(key);
  }

  clear(): void {
    this.#counts.clear();
  }
}
