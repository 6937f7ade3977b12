import { performance } from 'node:perf_hooks';
import { WakeTurns } from '@sepia/base/async/wake-turns';
import { StrangerRate } from '../core/strangers/stranger-rate.ts';
import { StrangerSlots } from '../core/strangers/stranger-slots.ts';
import { WIRE_LIMITS } from '../limits.ts';
import type { BlockBuffers } from './block-buffers.ts';
import type { UploadBudget, UploadGate } from './upload.ts';

/** How long a peer keeps its slot while others wait, in ms (BEP 3: three rounds of ten seconds). */
const HOLD_MS = 30_000;
const TURN_MS = 5_000;
/** What strangers have in sockets and reads together, in bytes. */
const STRANGER_BYTES = 4 * 1024 * 1024;

/** What a member spends on peers that are no members. */
export interface StrangerLimits {
  /** How many strangers are unchoked at once. */
  readonly slots: number;
  /** Upload rate of all strangers together, in bytes per second, while no member is served. */
  readonly bytesPerSec: number;
}

/** Limits of an engine that is given none: 8 strangers at once, 32 MiB/s together. */
const STRANGER_LIMITS: StrangerLimits = Object.freeze({ slots: 8, bytesPerSec: 32 * 1024 * 1024 });

/** The limits that `policies` of the cluster document name: with no rate nobody has a slot. */
export function strangerLimits(policies: {
  readonly 'stranger-slots': number;
  readonly 'stranger-rate': number;
}): StrangerLimits {
  const bytesPerSec = policies['stranger-rate'];
  return { slots: bytesPerSec === 0 ? 0 : policies['stranger-slots'], bytesPerSec };
}

/** A wire to a stranger that wants something. */
export interface Seat {
  /** Chokes the peer, or unchokes it. */
  choke(on: boolean): void;
}

/** Upload slots and rate that all strangers of an engine share; members always come first. */
export class StrangerRoom implements UploadGate {
  readonly budget: UploadBudget;
  readonly #slots: StrangerSlots<Seat>;
  readonly #rate: StrangerRate;
  readonly #members: Pick<UploadBudget, 'usedBytes'>;
  readonly #waiting = new WakeTurns();
  #turning: NodeJS.Timeout | undefined;
  #waking: NodeJS.Timeout | undefined;

  /** `members`: what is read or waits in sockets for members. */
  constructor(
    deps: { readonly members: Pick<UploadBudget, 'usedBytes'>; readonly buffers: BlockBuffers },
    limits: StrangerLimits = STRANGER_LIMITS,
  ) {
    this.#members = deps.members;
    this.budget = { usedBytes: 0, limitBytes: STRANGER_BYTES, buffers: deps.buffers };
    this.#slots = new StrangerSlots({ slots: limits.slots, holdMs: HOLD_MS });
    this.#rate = new StrangerRate({
      bytesPerSec: limits.bytesPerSec,
      readBytes: WIRE_LIMITS.uploadReadBytes,
      nowMs: performance.now(),
    });
  }

  ask(seat: Seat): void {
    this.#slots.ask(seat, performance.now());
    this.#turn();
  }

  leave(seat: Seat): void {
    const hadSlot = this.#slots.leave(seat);
    if (hadSlot) seat.choke(true);
    this.#turn();
  }

  /** While others wait, who asks waits behind them: what comes free is theirs in turn. */
  take(bytes: number, again: () => void): boolean {
    if (this.#waking === undefined) {
      const waitMs = this.#rate.take(bytes, this.#members.usedBytes > 0, performance.now());
      if (waitMs === 0) return true;
      this.#waking = setTimeout(() => this.#wake(), waitMs);
    }
    this.#waiting.add(again);
    return false;
  }

  forget(again: () => void): void {
    this.#waiting.forget(again);
    if (this.#waiting.size === 0) this.#stopWaking();
  }

  stop(): void {
    clearTimeout(this.#turning);
    this.#stopWaking();
    this.#waiting.clear();
  }

  #wake(): void {
    this.#waking = undefined;
    // Whoever is refused sets it again.
    this.#waiting.wakeWhile(() => this.#waking === undefined);
  }

  #stopWaking(): void {
    clearTimeout(this.#waking);
    this.#waking = undefined;
  }

  #turn(): void {
    clearTimeout(this.#turning);
    const { unchoke, choke } = this.#slots.turn(performance.now());
    for (const seat of choke) seat.choke(true);
    for (const seat of unchoke) seat.choke(false);
    if (this.#slots.size === 0) return;
    this.#turning = setTimeout(() => this.#turn(), TURN_MS);
    this.#turning.unref();
  }
}
