/** How long a download may be without progress, in ms. */
export interface PatienceLimits {
  /** Where nobody has a byte of it. */
  readonly progressMs: number;
  /** Once somebody has: a client that has bytes is better served late than cut. */
  readonly stallMs: number;
}

/** The origins are asked so often within `progressMs`. */
const LOOKS = 5;

/**
 * When a download is given up: nothing of it came for too long, neither here nor from the upstream to whoever fetches it.
 * Pure: time is passed in.
 */
export class Patience {
  readonly #limits: PatienceLimits;
  #progressMs: number;
  #hasBegun = false;
  /** What the origins had from upstreams when they were last asked, in bytes. */
  #fetchedBytes = 0;
  #lookedMs: number;
  /** What the last look brought has not been judged. */
  #hasNews = false;

  constructor(limits: PatienceLimits, nowMs: number) {
    this.#limits = limits;
    this.#progressMs = nowMs;
    this.#lookedMs = nowMs;
  }

  /** Notes progress: bytes came, or a new reader, whose wait begins now. */
  progress(nowMs: number): void {
    this.#progressMs = nowMs;
  }

  /** Notes that a reader has got bytes. */
  begun(): void {
    this.#hasBegun = true;
  }

  silentMs(nowMs: number): number {
    return nowMs - this.#progressMs;
  }

  /**
   * What to do now; called often. `look`: to ask the origins what they have got, where they may be asked: bytes there are
   * progress too. Often enough to date them; what a look found is judged before the next one, however short the limits.
   */
  next(nowMs: number, mayLook: boolean): 'look' | 'give-up' | 'wait' {
    if (mayLook && !this.#hasNews && this.#isLookDue(nowMs)) return 'look';
    this.#hasNews = false;
    return this.#isOver(nowMs) ? 'give-up' : 'wait';
  }

  /** Notes how much the origins have fetched so far: more than at the last look is progress. */
  fetched(bytes: number, nowMs: number): void {
    this.#lookedMs = nowMs;
    this.#hasNews = true;
    if (bytes <= this.#fetchedBytes) return;
    this.#fetchedBytes = bytes;
    this.#progressMs = nowMs;
  }

  #isLookDue(nowMs: number): boolean {
    return nowMs - Math.max(this.#progressMs, this.#lookedMs) >= this.#limits.progressMs / LOOKS;
  }

  #isOver(nowMs: number): boolean {
    const { progressMs, stallMs } = this.#limits;
    return this.silentMs(nowMs) > (this.#hasBegun ? Math.max(progressMs, stallMs) : progressMs);
  }
}
