import type { Metrics } from '../metrics.ts';
import { CLOCK_TOLERANCE_MS, ClockBook, type ClockSample } from './core/clock-book.ts';

/** The clocks that a {@link MemberClock} is made of; in ms. */
interface Sources {
  /** The machine's clock, which may be wrong and may be set. */
  readonly wallMs: () => number;
  /** Never set. */
  readonly steadyMs: () => number;
}

/** What a member's answer says: the time that it works in, and that of its machine where it is another. */
export interface ToldClock {
  readonly dateMs: number;
  readonly wallMs?: number | undefined;
}

const OWN: Sources = {
  wallMs: () => Date.now(),
  steadyMs: () => performance.timeOrigin + performance.now(),
};
/** How often the machine's clock is compared with the others', in ms of the steady clock. */
const COMPARE_MS = 250;

/**
 * The time of the cluster as this member has it: steady, and moved only where most clocks that it knows say so. A machine
 * whose clock is wrong, or is set while it runs, works on in the time of the others and says so.
 */
export class MemberClock {
  readonly #sources: Sources;
  readonly #book = new ClockBook();
  #stepMs: number;
  #comparedMs: number;

  constructor(sources: Sources = OWN) {
    this.#sources = sources;
    this.#comparedMs = Number.NEGATIVE_INFINITY;
    this.#stepMs = 0;
  }

  /** Whole ms since 1970 by the cluster's time. */
  readonly nowMs = (): number => {
    const steady = this.#sources.steadyMs();
    if (steady - this.#comparedMs >= COMPARE_MS) this.#compare(steady);
    return Math.floor(steady + this.#stepMs);
  };

  /** The date that a call to this member bears: by its own clock, where that is known. */
  dateFor(id: string): number {
    const steady = this.#sources.steadyMs();
    const offsetMs = this.#book.offsetOf(id, steady);
    return offsetMs === undefined ? this.nowMs() : Math.floor(steady + offsetMs);
  }

  /** For {@link answered}: a time of the steady clock. */
  mark(): number {
    return this.#sources.steadyMs();
  }

  /** Whole ms since 1970 by the machine's clock, where that shows another time than {@link nowMs}. */
  readonly wallMs = (): number | undefined => {
    const wallMs = Math.floor(this.#sources.wallMs());
    return Math.abs(wallMs - this.nowMs()) > CLOCK_TOLERANCE_MS ? wallMs : undefined;
  };

  /** A member answered a call that was begun at `markMs` and told its clocks. */
  answered(id: string, told: ToldClock, markMs: number): void {
    const steady = this.#sources.steadyMs();
    this.#book.note(id, sampleOf(told, markMs, steady), steady);
    this.#compare(steady);
  }

  /** Whether such an answer would say more than is known: else nobody need check who said it. */
  isNews(id: string, told: ToldClock, markMs: number): boolean {
    const steady = this.#sources.steadyMs();
    return this.#book.isNews(id, sampleOf(told, markMs, steady), steady);
  }

  /** How far the machine's clock is ahead of the others', in s. */
  get skewSeconds(): number {
    const steady = this.#sources.steadyMs();
    return Math.round(this.#book.skewMs(this.#sources.wallMs() - steady, steady)) / 1000;
  }

  /** Lines for `/readyz`. */
  get warnings(): string[] {
    const steady = this.#sources.steadyMs();
    return this.#book.warnings(this.#sources.wallMs() - steady, steady);
  }

  /** Shows the skew as a metric. */
  measure(metrics: Pick<Metrics, 'gauge'>): void {
    metrics.gauge(
      'sepia_clock_skew_seconds',
      "Seconds that this machine's clock is ahead of the middle of the other members' clocks; negative: behind.",
      () => this.skewSeconds,
    );
  }

  #compare(steady: number): void {
    this.#comparedMs = steady;
    this.#stepMs = this.#book.stepMs(this.#sources.wallMs() - steady, steady);
  }
}

function sampleOf({ dateMs, wallMs = dateMs }: ToldClock, markMs: number, steadyMs: number): ClockSample {
  const middleMs = (markMs + steadyMs) / 2;
  return {
    offsetMs: dateMs - middleMs,
    wallOffsetMs: wallMs - middleMs,
    errorMs: (steadyMs - markMs) / 2,
  };
}
