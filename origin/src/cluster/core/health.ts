import { backoffMs } from '@sepia/base/async/backoff';

/** First time a member is passed over after it failed, in ms; doubles with each further failure. */
const FIRST_SUSPICION_MS = 1_000;
const MAX_SUSPICION_MS = 15_000;

interface Suspicion {
  failures: number;
  untilMs: number;
}

/**
 * Remembers which members failed or stayed silent. Health never changes who owns what: it only orders the
 * tries and names stand-ins (design, "Membership, ring, records"). Pure: time is passed in.
 */
export class Health {
  readonly #suspects = new Map<string, Suspicion>();

  /** The member did not answer. */
  failed(id: string, nowMs: number): void {
    const failures = (this.#suspects.get(id)?.failures ?? 0) + 1;
    const restMs = backoffMs(failures, FIRST_SUSPICION_MS, MAX_SUSPICION_MS);
    this.#suspects.set(id, { failures, untilMs: nowMs + restMs });
  }

  /** The member answered anything at all. True if it had failed before. */
  answered(id: string): boolean {
    return this.#suspects.delete(id);
  }

  isSuspect(id: string, nowMs: number): boolean {
    return (this.#suspects.get(id)?.untilMs ?? 0) > nowMs;
  }

  /** The same ids: those not suspected first, both parts in their given order. */
  order(ids: readonly string[], nowMs: number): string[] {
    return [
      ...ids.filter((id) => !this.isSuspect(id, nowMs)),
      ...ids.filter((id) => this.isSuspect(id, nowMs)),
    ];
  }

  suspects(nowMs: number): string[] {
    return [...this.#suspects.keys()].filter((id) => this.isSuspect(id, nowMs));
  }
}
