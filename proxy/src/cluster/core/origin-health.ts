interface Pulse {
  lastOkMs: number;
  failed: boolean;
}

/**
 * When each origin answered last. Health orders the tries, it never changes who owns what. An origin that was
 * never heard of counts as healthy. Pure: time is passed in, in ms.
 */
export class OriginHealth {
  readonly #pulses = new Map<string, Pulse>();

  /** The origin answered anything at all. */
  ok(id: string, nowMs: number): void {
    this.#pulses.set(id, { lastOkMs: nowMs, failed: false });
  }

  /** The origin was silent or could not be reached. */
  failed(id: string): void {
    this.#pulses.set(id, {
      lastOkMs: this.#pulses.get(id)?.lastOkMs ?? Number.NEGATIVE_INFINITY,
      failed: true,
    });
  }

  isSuspect(id: string): boolean {
    return this.#pulses.get(id)?.failed === true;
  }

  /** True if the origin answered within the last `ms`. */
  aliveWithin(id: string, ms: number, nowMs: number): boolean {
    return (this.#pulses.get(id)?.lastOkMs ?? Number.NEGATIVE_INFINITY) >= nowMs - ms;
  }

  /** The same ids: those not suspected first, both parts in their given order. */
  order(ids: readonly string[]): string[] {
    return [...ids.filter((id) => !this.isSuspect(id)), ...ids.filter((id) => this.isSuspect(id))];
  }

  /** How many of `ids` have answered and not failed since. */
  answering(ids: readonly string[]): number {
    return ids.filter((id) => this.#pulses.get(id)?.failed === false).length;
  }
}
