import type { VirtualClock } from './clock.ts';

/** Where a run names no others: one way across the network, and within what nodes start. */
export const DEFAULT_LATENCY_MS = 0.5;
export const DEFAULT_START_MS = 50;

interface Port {
  readonly upBytesPerSec: number;
  readonly downBytesPerSec: number;
  upFreeMs: number;
  downFreeMs: number;
  /** Stopped: what comes to it is never taken. */
  deaf: boolean;
  sentBytes: number;
}

/** Every node has one full-duplex line: uploads leave in order at one rate, downloads come in order at the other, plus a latency. */
export class Network {
  readonly latencyMs: number;
  readonly #clock: VirtualClock;
  readonly #ports = new Map<string, Port>();

  constructor(clock: VirtualClock, latencyMs: number) {
    this.#clock = clock;
    this.latencyMs = latencyMs;
  }

  add(name: string, upBytesPerSec: number, downBytesPerSec: number): void {
    this.#ports.set(name, {
      upBytesPerSec,
      downBytesPerSec,
      upFreeMs: 0,
      downFreeMs: 0,
      deaf: false,
      sentBytes: 0,
    });
  }

  silence(name: string): void {
    this.#ports.get(name)!.deaf = true;
  }

  sentBytes(name: string): number {
    return this.#ports.get(name)!.sentBytes;
  }

  /** A message without weight. */
  message(run: () => void): void {
    this.#clock.at(this.#clock.nowMs + this.latencyMs, run);
  }

  /** Sends `bytes`; `sent` when they left, `arrived` when they are there. */
  transfer(from: string, to: string, bytes: number, sent: () => void, arrived: () => void): void {
    const up = this.#ports.get(from)!;
    const down = this.#ports.get(to)!;
    const now = this.#clock.nowMs;
    up.upFreeMs = Math.max(up.upFreeMs, now) + (bytes * 1000) / up.upBytesPerSec;
    up.sentBytes += bytes;
    const leftMs = up.upFreeMs;
    this.#clock.at(leftMs, sent);
    this.#clock.at(leftMs + this.latencyMs, () => {
      if (down.deaf) return;
      const startMs = Math.max(down.downFreeMs, this.#clock.nowMs - (bytes * 1000) / down.downBytesPerSec);
      down.downFreeMs = startMs + (bytes * 1000) / down.downBytesPerSec;
      this.#clock.at(down.downFreeMs, arrived);
    });
  }
}
