import type { Digest } from '@sepia/base/digest';
import { logFailure, throwIfBug } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import type { Budget } from '@sepia/store/core/eviction';
import { CACHE_TICK_MS } from '../deadlines.ts';
import { type CachedLayer, CacheKeeping, type CacheStep } from './core/cache-keeping.ts';
import { fileNameOf, type Layers } from './layers.ts';
import type { LazyLayer } from './lazy-layer.ts';

interface Deps {
  readonly layers: Pick<Layers, 'cached' | 'remove'>;
  /** DiffIDs of the layers that containerd's snapshots name. A rejection: nobody knows, and nothing goes. */
  readonly held: () => Promise<ReadonlySet<Digest>>;
  /** Containerd does not find the layer any more; `mayGo` is asked at the last moment. */
  readonly withdraw: (layer: LazyLayer, mayGo: () => boolean) => Promise<void>;
  readonly show: (layer: LazyLayer) => Promise<void>;
  /** The mount serves this file no longer. */
  readonly hide: (name: string) => Promise<void>;
  /** A layer begins to go. @returns forgets its index, unless that is asked for again meanwhile */
  readonly leaving: (layer: LazyLayer) => () => Promise<void>;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/** What `sepia lazy status` says of the cache. */
export interface CacheFill {
  readonly usedBytes: number;
  readonly budgetBytes: number;
  readonly layers: number;
  /** Layers that snapshots name. */
  readonly layersInUse: number;
  /** Why there is too much; undefined: there is not, or room is being made. */
  readonly lack: string | undefined;
}

/** Keeps the layers of this node within their budget. What decides is {@link CacheKeeping}. */
export class CacheKeeper {
  readonly #deps: Deps;
  readonly #keeping: CacheKeeping;
  readonly #abort = new AbortController();
  readonly #tickMs: number;
  readonly #loop: Promise<void>;
  /** Layers that nobody finds any more and whose files did not go yet. */
  readonly #going = new Map<string, () => Promise<void>>();
  #layers = 0;
  #removed = 0;
  #lack: string | undefined;
  #lastFailure: string | undefined;

  constructor(deps: Deps, budget: Budget, tickMs = CACHE_TICK_MS) {
    this.#deps = deps;
    this.#tickMs = tickMs;
    this.#keeping = new CacheKeeping(budget);
    this.#loop = this.#run();
  }

  get fill(): CacheFill {
    return { ...this.#keeping.fill, layers: this.#layers, lack: this.#lack };
  }

  /** Layers that went since the start. */
  get removed(): number {
    return this.#removed;
  }

  adjust(budget: Budget): void {
    this.#keeping.adjust(budget);
  }

  /** A layer is shown to a pull now. */
  shown(layer: LazyLayer): void {
    this.#keeping.shown(idOf(layer), this.#deps.nowMs());
  }

  /** False where what nobody reads is not to be fetched: there is no room, or the layer goes or is of no image that is here. */
  mayFill(layer: LazyLayer): boolean {
    return !this.#keeping.isFull && this.#keeping.isWanted(idOf(layer));
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    do {
      try {
        await this.#tick();
      } catch (error) {
        this.#lack = `layers are not kept within their budget: ${(error as Error).message}`;
        logFailure(this.#deps.log, error, 'keeping the layers within their budget failed; it is tried again');
      }
    } while (await pause(this.#tickMs, signal));
  }

  async #tick(): Promise<void> {
    const { layers, nowMs } = this.#deps;
    const cached = layers.cached();
    // One that is here again is counted among them, and its files are in use.
    for (const { layer } of cached) this.#going.delete(idOf(layer));
    for (const remove of this.#going.values()) await this.#tryTo(remove);
    const byId = new Map(cached.map(({ layer }) => [idOf(layer), layer]));
    const found: CachedLayer[] = await Promise.all(
      cached.map(async ({ layer, keptMs, isLocal }) => ({
        ...{ id: idOf(layer), usedMs: keptMs, isLocal },
        sizeBytes: await layer.diskBytes(),
      })),
    );
    this.#layers = found.length;
    // Who asks for a layer after this is not among what is held.
    const atMs = nowMs();
    if (!this.#keeping.mustLook(found, atMs)) {
      this.#lack = undefined;
      return;
    }
    const held = await this.#held();
    const steps = this.#keeping.step(found, held, atMs);
    this.#lack = this.#whyFull(steps);
    for (const { type, id } of steps) await this.#do(type, byId.get(id)!);
  }

  async #held(): Promise<ReadonlySet<string> | undefined> {
    try {
      const held = [...(await this.#deps.held())].map((diffId) => fileNameOf(diffId));
      this.#lastFailure = undefined;
      return new Set(held);
    } catch (error) {
      throwIfBug(error);
      const reason = (error as Error).message;
      // While there is room it costs nothing.
      const level = this.#keeping.isFull ? 'warn' : 'debug';
      if (reason !== this.#lastFailure)
        logFailure(this.#deps.log, error, 'no layer can make room: nobody knows what is in use', {}, level);
      this.#lastFailure = reason;
      return undefined;
    }
  }

  #whyFull(steps: readonly CacheStep[]): string | undefined {
    const { usedBytes, budgetBytes } = this.#keeping.fill;
    const isMoving = steps.length > 0 || this.#keeping.isMoving;
    if (!this.#keeping.isFull || (isMoving && this.#lastFailure === undefined)) return undefined;
    const size = `layers take ${mib(usedBytes)} of ${mib(budgetBytes)} MiB (cache.budget)`;
    return `${size}: ${this.#lastFailure ?? 'what is here is in use; what nobody reads is not fetched'}`;
  }

  async #do(type: CacheStep['type'], layer: LazyLayer): Promise<void> {
    const { withdraw, show, layers, hide, leaving, log } = this.#deps;
    const isLeaving = (): boolean => this.#keeping.isLeaving(idOf(layer));
    if (type === 'show') await show(layer);
    else if (type === 'withdraw') await withdraw(layer, isLeaving);
    else if (isLeaving()) {
      const forget = leaving(layer);
      const remove = async (): Promise<void> => {
        const isGone = await layers.remove(layer, () => hide(idOf(layer)), forget);
        this.#going.delete(idOf(layer));
        if (!isGone) return;
        this.#removed += 1;
        log.info({ layer: layer.index.layer }, 'a layer that no snapshot names made room');
      };
      this.#going.set(idOf(layer), remove);
      await this.#tryTo(remove);
    }
  }

  /** Files that cannot go now keep no other layer here. */
  async #tryTo(remove: () => Promise<void>): Promise<void> {
    try {
      await remove();
    } catch (error) {
      logFailure(this.#deps.log, error, 'files of a layer that makes room are left; it is tried again');
    }
  }
}

function idOf(layer: LazyLayer): string {
  return fileNameOf(layer.index.diffId);
}

function mib(bytes: number): number {
  return Math.ceil(bytes / 2 ** 20);
}
