/** Longest pause believed, in seconds: a broken header must not close an upstream for a day. */
const MAX_PAUSE_SECONDS = 600;

/** Seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3: a number or a date), or undefined. */
export function retryAfterSeconds(
  header: string | readonly string[] | undefined,
  nowMs: number,
): number | undefined {
  const text = (typeof header === 'string' ? header : header?.[0])?.trim();
  if (text === undefined || text === '') return undefined;
  const seconds = /^\d{1,9}$/.test(text) ? Number(text) : (Date.parse(text) - nowMs) / 1000;
  return Number.isNaN(seconds) ? undefined : Math.min(MAX_PAUSE_SECONDS, Math.max(0, Math.ceil(seconds)));
}

/** Remembers, per kind of request, until when the upstream does not want to be asked. */
export class PauseBook {
  readonly #untilMs = new Map<string, number>();

  /** Whole seconds left for `kind`; 0 when it may be asked. */
  secondsLeft(kind: string, nowMs: number): number {
    const leftMs = (this.#untilMs.get(kind) ?? 0) - nowMs;
    return leftMs > 0 ? Math.ceil(leftMs / 1000) : 0;
  }

  /** Notes a pause; a longer one that is noted already stays. */
  pause(kind: string, seconds: number, nowMs: number): void {
    this.#untilMs.set(kind, Math.max(this.#untilMs.get(kind) ?? 0, nowMs + seconds * 1000));
  }
}
