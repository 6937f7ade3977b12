const WINDOW_MS = 200;
const WEIGHT = 0.3;
/** `bestPerSec` halves in this time, in ms. */
const HALF_LIFE_MS = 7_000;
/** Bounds of what is believed, bytes per second: beyond them it is a fault of the measurement. */
const LEAST = 1024;
const MOST = 1e11;

/** Bytes per second, smoothed, 0 before the first window, else between 1 KiB/s and 100 GB/s; idle time is not slowness. */
export class Rate {
  bytesPerSec = 0;
  /** Highest rate of late, fading with {@link HALF_LIFE_MS}: what is possible, also while the fastest sender is silent. */
  bestPerSec = 0;
  readonly #windowMs: number;
  #sinceMs: number;
  #heardMs: number;
  #bytes = 0;

  constructor(nowMs: number, windowMs: number = WINDOW_MS) {
    this.#sinceMs = this.#heardMs = nowMs;
    this.#windowMs = windowMs;
  }

  /** Begins to measure anew: until now nothing was in flight. */
  restart(nowMs: number): void {
    this.#sinceMs = this.#heardMs = nowMs;
    this.#bytes = 0;
  }

  /** For how long nothing came, in ms, not counting the time before {@link restart}. */
  silentMs(nowMs: number): number {
    return nowMs - this.#heardMs;
  }

  add(bytes: number, nowMs: number): void {
    this.#bytes += bytes;
    this.#heardMs = nowMs;
    const spanMs = nowMs - this.#sinceMs;
    if (spanMs < this.#windowMs) return;
    const sample = Math.min(MOST, Math.max(LEAST, (this.#bytes * 1000) / spanMs));
    this.bytesPerSec =
      this.bytesPerSec === 0 ? sample : this.bytesPerSec + (sample - this.bytesPerSec) * WEIGHT;
    this.bestPerSec = Math.max(this.bytesPerSec, this.bestPerSec * 0.5 ** (spanMs / HALF_LIFE_MS));
    this.restart(nowMs);
  }
}
