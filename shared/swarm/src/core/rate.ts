const WINDOW_MS = 200;
const WEIGHT = 0.3;
/** The best of late halves in this time, ms. */
const HALF_LIFE_MS = 7_000;
/** Bounds of what is believed, bytes per second: beyond them it is a fault of the measurement. */
const LEAST = 1024;
const MOST = 1e11;

/** Bytes per second, smoothed, 0 before the first window, else between 1 KiB/s and 100 GB/s; idle time is not slowness. */
export class Rate {
  bytesPerSec = 0;
  /** The most that it was of late: what it can be, also when who was quick is silent. */
  bestPerSec = 0;
  readonly #windowMs: number;
  #sinceMs: number;
  #heardMs: number;
  #bytes = 0;

  constructor(nowMs: number, windowMs: number = WINDOW_MS) {
    this.#sinceMs = this.#heardMs = nowMs;
    this.#windowMs = windowMs;
  }

  /** Nothing was on its way until now. */
  restart(nowMs: number): void {
    this.#sinceMs = this.#heardMs = nowMs;
    this.#bytes = 0;
  }

  /** Since when nothing came though something was on its way, ms ago. */
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
