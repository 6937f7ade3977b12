import { Chance } from '@sepia/swarm/core/random';
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
  /** Who is on the other side of a cut is not reached. */
  side: 0 | 1;
}

/** Data of one connection in one direction: it comes in the order in which it left. */
export interface Stream {
  readonly to: Port;
  arrivedMs: number;
}

/** What is lost is sent again after this: the least that TCP waits. */
const RESEND_MS = 200;

/** Every node has one full-duplex line: uploads leave in order at one rate, downloads come in order at the other, plus a latency. */
export class Network {
  readonly latencyMs: number;
  readonly #clock: VirtualClock;
  readonly #ports = new Map<string, Port>();
  readonly #chance = new Chance(1);
  #lossShare = 0;
  #healsAtMs = 0;

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
      side: 0,
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

  /** From now on this share of all blocks comes later, and what is behind it on its connection too. */
  lose(share: number): void {
    this.#lossShare = share;
  }

  /** Until then these nodes and the rest do not reach each other: what was sent comes when they do. */
  cut(names: readonly string[], untilMs: number): void {
    for (const name of names) this.port(name).side = 1;
    this.#healsAtMs = untilMs;
  }

  /** Whether some nodes do not reach others now. */
  get isParted(): boolean {
    return this.#clock.nowMs < this.#healsAtMs;
  }

  isCut(from: Port, to: Port): boolean {
    return this.isParted && from.side !== to.side;
  }

  /** A message without weight; where its ends are given a cut holds it back. */
  message(run: () => void, from?: Port, to?: Port): void {
    const isHeld = from !== undefined && to !== undefined && this.isCut(from, to);
    this.#clock.at((isHeld ? this.#healsAtMs : this.#clock.nowMs) + this.latencyMs, run);
  }

  /** Sends `bytes`; `sent` when they left, `arrived` when they are there. */
  transfer(up: Port, stream: Stream, bytes: number, sent: () => void, arrived: () => void): void {
    const clock = this.#clock;
    const down = stream.to;
    const leftMs = Math.max(up.upFreeMs, clock.nowMs) + (bytes * 1000) / up.upBytesPerSec;
    up.upFreeMs = leftMs;
    up.sentBytes += bytes;
    clock.at(leftMs, () => {
      // All have the same way across, so whoever leaves first is there first, unless it is lost or held back.
      const tookMs = (bytes * 1000) / down.downBytesPerSec;
      down.downFreeMs = Math.max(down.downFreeMs, leftMs + this.latencyMs - tookMs) + tookMs;
      const lateMs = this.#lossShare > 0 && this.#chance.next() < this.#lossShare ? RESEND_MS : 0;
      const heldMs = this.isCut(up, down) ? this.#healsAtMs + this.latencyMs : 0;
      stream.arrivedMs = Math.max(stream.arrivedMs, down.downFreeMs + lateMs, heldMs);
      if (!down.deaf) clock.at(stream.arrivedMs, arrived);
      sent();
    });
  }
}
