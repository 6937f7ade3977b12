/** What an answer of a member said of its clocks: how far they are before the own steady clock, in ms, and how sure that is. */
export interface ClockSample {
  /** The time that it works in. */
  readonly offsetMs: number;
  /** Its machine's clock, where that shows another time. */
  readonly wallOffsetMs?: number;
  /** The true offset is at most this far away: half of the time that the call took. */
  readonly errorMs: number;
}

/** A clock that is off by no more is right, in ms. */
export const CLOCK_TOLERANCE_MS = 2_000;
/** The own time follows the others once it is off by more, in ms; small differences never move it. */
const STEP_MS = 1_000;
/** A sample is believed for so long; a better one replaces it at once, any other after a minute. */
const KEEP_MS = 600_000;
const RENEW_MS = 60_000;
/** Answers that took longer say too little. */
const MAX_ERROR_MS = 2_500;
const MAX_MEMBERS = 4_096;

interface Kept extends Required<ClockSample> {
  readonly atMs: number;
}

/**
 * Clocks of the members that answered, and what follows from them. All is measured against a steady clock, which nobody
 * sets; `atMs` is a time of that clock, `wallOffsetMs` how far the machine's clock is before it now. Pure.
 */
export class ClockBook {
  readonly #samples = new Map<string, Kept>();
  #stepMs = 0;
  #steppedAtMs = Number.NEGATIVE_INFINITY;

  /** False where {@link note} would change nothing. */
  isNews(id: string, sample: ClockSample, atMs: number): boolean {
    const { offsetMs, wallOffsetMs = offsetMs, errorMs } = sample;
    if (!Number.isFinite(offsetMs) || !(errorMs >= 0 && errorMs <= MAX_ERROR_MS)) return false;
    const before = this.#samples.get(id);
    if (before === undefined || before.errorMs > errorMs || atMs - before.atMs >= RENEW_MS) return true;
    const leastMs = before.errorMs + errorMs + STEP_MS;
    const isMoved = (was: number, is: number): boolean => Math.abs(was - is) > leastMs;
    return isMoved(before.offsetMs, offsetMs) || isMoved(before.wallOffsetMs, wallOffsetMs);
  }

  note(id: string, sample: ClockSample, atMs: number): void {
    if (!this.isNews(id, sample, atMs)) return;
    const isFull = !this.#samples.has(id) && this.#samples.size >= MAX_MEMBERS;
    if (isFull) this.#forgetOld(atMs);
    if (isFull && this.#samples.size >= MAX_MEMBERS) return;
    const { offsetMs, wallOffsetMs = offsetMs, errorMs } = sample;
    this.#samples.set(id, { offsetMs, wallOffsetMs, errorMs, atMs });
  }

  /**
   * How far the time that all agree on is before the steady clock. Where most machines' clocks, the own one among them, show
   * one time it is that: they were all set, or woke from a sleep in which steady clocks stood still. Else the members stay in
   * the time that they work in.
   */
  stepMs(wallOffsetMs: number, atMs: number): number {
    const others = this.#fresh(atMs).map(([, kept]) => kept);
    const walls = [...others.map((kept) => kept.wallOffsetMs), wallOffsetMs];
    const times = [...others.map(({ offsetMs }) => offsetMs), wallOffsetMs];
    const wall = medianOf(walls, wallOffsetMs);
    const agree = walls.filter((one) => Math.abs(one - wall) <= CLOCK_TOLERANCE_MS).length;
    const median = 2 * agree > walls.length ? wall : medianOf(times, wallOffsetMs);
    if (Math.abs(median - this.#stepMs) > STEP_MS) {
      this.#stepMs = median;
      this.#steppedAtMs = atMs;
    }
    return this.#stepMs;
  }

  /** How far the date of a call to this member must be before the steady clock; undefined: nothing is known of it. */
  offsetOf(id: string, atMs: number): number | undefined {
    const sample = this.#samples.get(id);
    return sample === undefined || atMs - sample.atMs > KEEP_MS ? undefined : sample.offsetMs;
  }

  /** How far the own wall clock is before the median of the others' machines, in ms; 0 while none has answered. */
  skewMs(wallOffsetMs: number, atMs: number): number {
    const others = this.#fresh(atMs).map(([, kept]) => kept.wallOffsetMs);
    return others.length === 0 ? 0 : wallOffsetMs - medianOf(others, wallOffsetMs);
  }

  /** Whose clocks are off, in words for an operator: the own one, or those of others. */
  warnings(wallOffsetMs: number, atMs: number): string[] {
    const fresh = this.#fresh(atMs);
    const own = this.skewMs(wallOffsetMs, atMs);
    const isOwn = Math.abs(own) > CLOCK_TOLERANCE_MS;
    if (isOwn && fresh.length > 1)
      return [
        `clock skew: the clock of this member is ${offText(own)} those of ${fresh.length} others; set it right`,
      ];
    const step = this.stepMs(wallOffsetMs, atMs);
    // Who was asked before the own time moved may have moved as well.
    return fresh
      .filter(([, kept]) => kept.atMs >= this.#steppedAtMs)
      .map(([id, kept]) => ({ id, offMs: kept.wallOffsetMs - step }))
      .filter(({ offMs }) => Math.abs(offMs) > CLOCK_TOLERANCE_MS)
      .map(
        ({ id, offMs }) => `clock skew: the clock of ${id} is ${offText(offMs)} the clock here; set it right`,
      );
  }

  #fresh(atMs: number): [string, Kept][] {
    return [...this.#samples].filter(([, { atMs: taken }]) => atMs - taken <= KEEP_MS);
  }

  #forgetOld(atMs: number): void {
    for (const [id, { atMs: taken }] of this.#samples) if (atMs - taken > KEEP_MS) this.#samples.delete(id);
  }
}

/** The middle one; of two in the middle the one nearer to `own`. */
function medianOf(values: readonly number[], own: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const [low, high] = [sorted[(sorted.length - 1) >> 1]!, sorted[sorted.length >> 1]!];
  return Math.abs(low - own) <= Math.abs(high - own) ? low : high;
}

function offText(ms: number): string {
  const seconds = Math.round(Math.abs(ms) / 1000);
  return `${seconds} s ${ms > 0 ? 'ahead of' : 'behind'}`;
}
