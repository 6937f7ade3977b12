import type { VirtualClock } from './clock.ts';

/** Where a run names no others: one way across the network, and within what nodes start. */
export const DEFAULT_LATENCY_MS = 0.5;
export const DEFAULT_START_MS = 50;

/** One node's full-duplex line. */
export interface Port {
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

  port(name: string): Port {
    return this.#ports.get(name)!;
  }

  silence(name: string): void {
    this.port(name).deaf = true;
  }

  sentBytes(name: string): number {
    return this.port(name).sentBytes;
  }

  /** A message without weight. */
  message(run: () => void): void {
    this.#clock.at(this.#clock.nowMs + this.latencyMs, run);
  }

  /** Sends `bytes`; `sent` when they left, `arrived` when they are there. */
  transfer(up: Port, down: Port, bytes: number, sent: () => void, arrived: () => void): void {
    const clock = this.#clock;
    const leftMs = Math.max(up.upFreeMs, clock.nowMs) + (bytes * 1000) / up.upBytesPerSec;
    up.upFreeMs = leftMs;
    up.sentBytes += bytes;
    clock.at(leftMs, () => {
      // All have the same way across, so whoever leaves first is there first.
      const tookMs = (bytes * 1000) / down.downBytesPerSec;
      down.downFreeMs = Math.max(down.downFreeMs, leftMs + this.latencyMs - tookMs) + tookMs;
      if (!down.deaf) clock.at(down.downFreeMs, arrived);
      sent();
    });
  }
}
