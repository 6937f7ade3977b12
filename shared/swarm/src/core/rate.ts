const WINDOW_MS = 200;
const WEIGHT = 0.3;

/** Bytes per second, smoothed; idle time is not slowness. */
export class Rate {
  bytesPerSec = 0;
  #sinceMs: number;
  #bytes = 0;

  constructor(nowMs: number) {
    this.#sinceMs = nowMs;
  }

  /** Nothing was on its way until now. */
  restart(nowMs: number): void {
    this.#sinceMs = nowMs;
    this.#bytes = 0;
  }

  add(bytes: number, nowMs: number): void {
    this.#bytes += bytes;
    const spanMs = nowMs - this.#sinceMs;
    if (spanMs < WINDOW_MS) return;
    const rate = (this.#bytes * 1000) / spanMs;
    this.bytesPerSec = this.bytesPerSec === 0 ? rate : this.bytesPerSec + (rate - this.bytesPerSec) * WEIGHT;
    this.restart(nowMs);
  }
}
