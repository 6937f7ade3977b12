/** How long owners may take where nobody has another way: one message, and the whole of what is asked. In ms. */
export interface Patience {
  readonly messageMs: number;
  readonly deadlineMs: number;
}

/**
 * How long each owner may take for a message of one call: `quickMs`, and with patience more, as long as its deadline is further
 * away. Who was silent for all of that, or is said to be gone, gets the short time only: one that hangs costs a call its
 * patience once. Pure.
 */
export class Waits {
  readonly #quickMs: number;
  readonly #patientMs: number;
  readonly #untilMs: number;
  readonly #silent = new Set<string>();

  constructor(quickMs: number, patience: Patience | undefined, nowMs: number) {
    this.#quickMs = quickMs;
    this.#patientMs = patience?.messageMs ?? quickMs;
    this.#untilMs = nowMs + (patience?.deadlineMs ?? 0);
  }

  /** For the next message to `id`. */
  messageMs(id: string, nowMs: number, isGone: boolean): number {
    if (isGone || this.#silent.has(id)) return this.#quickMs;
    return Math.max(this.#quickMs, Math.min(this.#patientMs, this.#untilMs - nowMs));
  }

  /** `id` did not answer within so long. */
  silent(id: string, waitedMs: number): void {
    if (waitedMs > this.#quickMs) this.#silent.add(id);
  }
}
