/** How long a download may be without progress, in ms. */
export interface PatienceLimits {
  /** Where nobody has a byte of it. */
  readonly progressMs: number;
  /** Once somebody has: a client that has bytes is better served late than cut. */
  readonly stallMs: number;
}

/** The origins are asked so often within `progressMs`. */
const LOOKS = 5;
/** A download that a slow line holds up may be without progress for so many times as long. */
const SLOW_LINE = 4;

/** What came over this machine's line so far, in bytes, verified or not. */
export interface Arrived {
  /** Of this blob. */
  readonly ownBytes: number;
  /** Of all blobs. */
  readonly lineBytes: number;
}

/**
 * When a download is given up: nothing of it came for too long, neither here nor from the upstream to whoever fetches it. Progress
 * is a piece; on a slow line that several blobs share one takes long, so while its bytes come, or those of the others while somebody
 * serves it, there is patience, to a limit. Pure: time is passed in.
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
  #arrived: Arrived = { ownBytes: 0, lineBytes: 0 };
  /** When the line last brought something that counts. */
  #arrivedMs: number;

  constructor(limits: PatienceLimits, nowMs: number) {
    this.#limits = limits;
    this.#progressMs = nowMs;
    this.#lookedMs = nowMs;
    this.#arrivedMs = nowMs;
  }

  /** Notes progress: a piece came, or a new reader, whose wait begins now. */
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

  /** Notes what came so far; called often. `isServed`: there are peers that may have pieces of this blob. */
  arrived(now: Arrived, isServed: boolean, nowMs: number): void {
    const { ownBytes, lineBytes } = this.#arrived;
    if (now.ownBytes > ownBytes || (isServed && now.lineBytes > lineBytes)) this.#arrivedMs = nowMs;
    this.#arrived = now;
  }

  #isLookDue(nowMs: number): boolean {
    return nowMs - Math.max(this.#progressMs, this.#lookedMs) >= this.#limits.progressMs / LOOKS;
  }

  #isOver(nowMs: number): boolean {
    const { progressMs, stallMs } = this.#limits;
    const mostMs = Math.max(progressMs, stallMs);
    const limitMs = this.#hasBegun ? mostMs : progressMs;
    if (this.silentMs(nowMs) <= limitMs) return false;
    return nowMs - this.#arrivedMs > limitMs || this.silentMs(nowMs) > SLOW_LINE * mostMs;
  }
}
