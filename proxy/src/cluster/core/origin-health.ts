/** An origin that fails may have answered this long ago until it counts as silent, in ms. */
export const PATIENCE_MS = 5_000;

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

  /** Those of `ids` of which nothing good was heard within the last `ms`: a probe must tell. */
  unheard(ids: readonly string[], ms: number, nowMs: number): string[] {
    return ids.filter((id) => this.isSuspect(id) || !this.aliveWithin(id, ms, nowMs));
  }

  /**
   * Those of `ids` that never answered, or failed since they did and last answered more than {@link PATIENCE_MS} ago:
   * one slow answer silences nobody, and the next answer ends it.
   */
  silent(ids: readonly string[], nowMs: number): string[] {
    return ids.filter((id) => {
      const pulse = this.#pulses.get(id);
      return pulse === undefined || (pulse.failed && !this.aliveWithin(id, PATIENCE_MS, nowMs));
    });
  }
}
