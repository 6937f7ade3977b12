import { backoffMs } from '@sepia/base/async/backoff';
import { Passes } from '@sepia/base/async/passes';
import { logFailure, throwIfBug } from '@sepia/base/failure';
import { endedOrAborted, pause } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { ScrubPace } from '@sepia/store/core/scrub-plan';
import { CHECK_LOOK_MS, FIRST_CHECK_PAUSE_MS, LONGEST_CHECK_PAUSE_MS } from '../deadlines.ts';
import type { LazyLayer } from './lazy-layer.ts';

type Checked = Pick<LazyLayer, 'index' | 'presence' | 'isSound' | 'isTouched' | 'check'>;

interface CheckerDeps<Layer extends Checked> {
  readonly log: Logger;
  /** The layers that are open, as they are now. */
  readonly layers: () => readonly Layer[];
  /** All of a layer was read again and is right: it may be mounted by its file. Must not reject. */
  readonly onSound: (layer: Layer) => Promise<void>;
  readonly nowMs: () => number;
}

interface CheckerOptions {
  /** Of layers that were found right before, in bytes a second; 0: these are not read again. */
  readonly rateBytesPerSec: number;
  /** From one check of a layer to the next. */
  readonly everyMs: number;
  /** How often layers are looked at, in ms. */
  readonly lookMs?: number;
}

/**
 * Rate at which layers are checked that became whole, were not read by this process yet or were written to, in bytes a
 * second.
 */
const FIRST_BYTES_PER_SEC = 64 * 1024 * 1024;

/**
 * Reads whole layers again and compares each block with its sum: the kernel mounts their files, and nobody else looks.
 * First those that were not checked by this process, or were written to; beside them, slowly, all in turn.
 */
export class LayerChecker<Layer extends Checked> {
  readonly #deps: CheckerDeps<Layer>;
  readonly #options: CheckerOptions;
  readonly #checkedMs = new WeakMap<Layer, number>();
  /** Layers whose check failed: how often in a row, and when they are checked again. */
  readonly #failed = new WeakMap<Layer, { readonly times: number; readonly againMs: number }>();
  /** Layers that this process did not find right yet. */
  readonly #first: Passes;
  /** Layers that this process has found right before. */
  readonly #again: Passes | undefined;

  constructor(deps: CheckerDeps<Layer>, options: CheckerOptions) {
    this.#deps = deps;
    this.#options = options;
    const { rateBytesPerSec: rate } = options;
    this.#first = this.#loop('layer-checks', FIRST_BYTES_PER_SEC, async () => await this.#nextNew());
    this.#again = rate === 0 ? undefined : this.#loop('layer-scrub', rate, async () => await this.#nextOld());
    this.#first.start();
    this.#again?.start();
  }

  /** There may be something to do. */
  wake(): void {
    this.#first.wake();
  }

  async stop(): Promise<void> {
    await Promise.all([this.#first.stop(), this.#again?.stop()]);
  }

  #loop(name: string, bytesPerSec: number, next: () => Promise<Layer | undefined>): Passes {
    const pace = new ScrubPace(bytesPerSec);
    return new Passes({
      name,
      pass: async (signal) => {
        for (let layer = await next(); layer !== undefined && !signal.aborted; layer = await next())
          await this.#check(layer, pace, signal);
      },
      rest: () => this.#options.lookMs ?? CHECK_LOOK_MS,
      log: this.#deps.log,
      failed: 'layers were not looked through',
    });
  }

  async #nextNew(): Promise<Layer | undefined> {
    for (const layer of this.#whole()) {
      if (!layer.isSound) return layer;
      if (await this.#isTouched(layer)) return layer;
    }
    return undefined;
  }

  async #nextOld(): Promise<Layer | undefined> {
    const dueMs = this.#deps.nowMs() - this.#options.everyMs;
    return this.#whole().find((layer) => layer.isSound && (this.#checkedMs.get(layer) ?? dueMs) <= dueMs);
  }

  #whole(): Layer[] {
    const { layers, nowMs } = this.#deps;
    const now = nowMs();
    return layers().filter(
      (one) => one.presence.isComplete && (this.#failed.get(one)?.againMs ?? now) <= now,
    );
  }

  /** A file that cannot be looked at is one to check: that says why. */
  async #isTouched(layer: Layer): Promise<boolean> {
    try {
      return await layer.isTouched();
    } catch (error) {
      throwIfBug(error);
      return this.#isOpen(layer);
    }
  }

  #isOpen(layer: Layer): boolean {
    return this.#deps.layers().includes(layer);
  }

  async #check(layer: Layer, pace: ScrubPace, signal: AbortSignal): Promise<void> {
    const { log, nowMs, onSound } = this.#deps;
    const isOver = (): boolean => signal.aborted || !this.#isOpen(layer);
    try {
      const checking = layer.check(async (bytes) => {
        const ms = pace.read(bytes, nowMs());
        if (ms > 0) await pause(ms, signal);
        return !isOver();
      });
      // What is fetched again then may take a minute; it ends with the layer.
      await endedOrAborted(checking, signal);
      if (isOver()) return;
      this.#checkedMs.set(layer, nowMs());
      // It was damaged: what is there now is read again a little later.
      if (!layer.isSound) return this.#wasNotRight(layer);
      this.#failed.delete(layer);
      await onSound(layer);
    } catch (error) {
      if (isOver()) return;
      this.#wasNotRight(layer);
      logFailure(log, error, 'a layer could not be checked; it is tried again', { layer: layer.index.layer });
    }
  }

  /**
   * Notes a failed check. The next one waits, ever longer: a disk that damages whatever is written must not be rewritten all
   * the time.
   */
  #wasNotRight(layer: Layer): void {
    const times = (this.#failed.get(layer)?.times ?? 0) + 1;
    const pauseMs = backoffMs(times, FIRST_CHECK_PAUSE_MS, LONGEST_CHECK_PAUSE_MS);
    this.#failed.set(layer, { times, againMs: this.#deps.nowMs() + pauseMs });
  }
}
