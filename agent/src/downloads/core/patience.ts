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

  constructor(limits: PatienceLimits, nowMs: number) {
    this.#limits = limits;
    this.#progressMs = nowMs;
    this.#lookedMs = nowMs;
  }

  /** Something came, or somebody came who waits from now on. */
  progress(nowMs: number): void {
    this.#progressMs = nowMs;
  }

  /** Somebody has bytes of it. */
  begun(): void {
    this.#hasBegun = true;
  }

  silentMs(nowMs: number): number {
    return nowMs - this.#progressMs;
  }

  /** True when it is time to ask the origins what they have got: bytes there are progress too. Often enough to date them. */
  mayLook(nowMs: number): boolean {
    return nowMs - Math.max(this.#progressMs, this.#lookedMs) >= this.#limits.progressMs / LOOKS;
  }

  isOver(nowMs: number): boolean {
    const { progressMs, stallMs } = this.#limits;
    return this.silentMs(nowMs) > (this.#hasBegun ? Math.max(progressMs, stallMs) : progressMs);
  }

  /** What the origins have got: more than when they were asked before is progress. */
  fetched(bytes: number, nowMs: number): void {
    this.#lookedMs = nowMs;
    if (bytes <= this.#fetchedBytes) return;
    this.#fetchedBytes = bytes;
    this.#progressMs = nowMs;
  }
}
