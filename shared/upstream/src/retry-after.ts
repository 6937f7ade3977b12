import { LatestMap } from '@sepia/base/latest-map';
import { type Answer, header } from './exchange.ts';

/** Seconds that an answer asks to be left alone, as {@link retryAfterSeconds}; a date counts from that of the answer. */
export function retryAfterOf(answer: Pick<Answer, 'headers'>, nowMs: number): number | undefined {
  const saidAtMs = Date.parse(header(answer, 'date') ?? '');
  return retryAfterSeconds(header(answer, 'retry-after'), Number.isNaN(saidAtMs) ? nowMs : saidAtMs);
}

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

/** Longest pause that what one repository was told means for the others, in seconds. */
export const MAX_SHARED_PAUSE_SECONDS = 10;
/** Pauses that are remembered; the oldest is forgotten first. */
const MAX_PAUSES = 1_000;

/**
 * Remembers, per kind of request and per repository, until when the upstream does not want to be asked. A repository
 * that is closed for an hour does not close the upstream: the others are asked again after 10 s at most.
 */
export class PauseBook {
  readonly #untilMs = new LatestMap<string, number>(MAX_PAUSES);

  /** Whole seconds left for `kind`; 0 when it may be asked. */
  secondsLeft(kind: string, nowMs: number): number {
    const leftMs = (this.#untilMs.get(kind) ?? 0) - nowMs;
    return leftMs > 0 ? Math.ceil(leftMs / 1000) : 0;
  }

  /** Notes a pause; a longer one that is noted already stays. */
  pause(kind: string, seconds: number, nowMs: number): void {
    const untilMs = Math.max(this.#untilMs.get(kind) ?? 0, nowMs + seconds * 1000);
    this.#untilMs.set(kind, untilMs);
  }
}
