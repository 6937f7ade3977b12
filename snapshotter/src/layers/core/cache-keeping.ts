import { type Budget, decideEvictions, mustEvict } from '@sepia/store/core/eviction';
import { CACHE_LOOK_MS, LEAVING_MS, ONE_PULL_MS, PULL_MS } from '../../deadlines.ts';

/** A layer on this disk. */
export interface CachedLayer {
  readonly id: string;
  /** What of it is here. */
  readonly sizeBytes: number;
  /** When it was used last, as far as its files tell. */
  readonly usedMs: number;
  /** Shown by the operator's own config: it stays. */
  readonly isLocal: boolean;
}

/**
 * `withdraw`: containerd must not find the layer any more. `show`: it must again, since a snapshot names it. `remove`:
 * its files go.
 */
export interface CacheStep {
  readonly type: 'withdraw' | 'show' | 'remove';
  readonly id: string;
}

interface Use {
  usedMs: number;
  /** Shown to a pull whose snapshot was not seen yet: when, and the last sign that the pull goes on. */
  awaited: { readonly shownMs: number; signMs: number } | undefined;
  leavingSinceMs: number | undefined;
  /** Whether a snapshot named it when they were looked at last; undefined: nobody knows. */
  isHeld: boolean | undefined;
  /** See {@link CachedLayer}. */
  isLocal: boolean;
}

/**
 * Keeps the layers of a node within a budget of bytes. What a snapshot of containerd names stays, and what was shown to a
 * pull a moment ago; of the rest the least recently used goes, whole, in two steps: first it cannot be found any more,
 * then, where no snapshot names it still, it is removed. Pure: time is passed in, in ms.
 */
export class CacheKeeping {
  #budget: Budget;
  readonly #uses = new Map<string, Use>();
  #usedBytes = 0;
  #inUse = 0;
  #lookedMs = Number.NEGATIVE_INFINITY;

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  /** Another budget, from the next step on. */
  adjust(budget: Budget): void {
    this.#budget = budget;
  }

  /** What was on this disk when it was looked at last, and how many of the layers are in use. */
  get fill(): { readonly usedBytes: number; readonly budgetBytes: number; readonly layersInUse: number } {
    return { usedBytes: this.#usedBytes, budgetBytes: this.#budget.budgetBytes, layersInUse: this.#inUse };
  }

  /** No room: only what programs read is fetched. */
  get isFull(): boolean {
    return mustEvict(this.#usedBytes, this.#budget);
  }

  /** Layers are on their way out, or wait for the snapshot of their pull. */
  get isMoving(): boolean {
    return [...this.#uses.values()].some(
      (one) => one.awaited !== undefined || one.leavingSinceMs !== undefined,
    );
  }

  /** A layer is shown to a pull. */
  shown(id: string, nowMs: number): void {
    const awaited = { shownMs: nowMs, signMs: nowMs };
    const { isHeld, isLocal = false } = this.#uses.get(id) ?? {};
    this.#uses.set(id, { usedMs: nowMs, awaited, leavingSinceMs: undefined, isHeld, isLocal });
  }

  /** False where it is known that nobody uses the layer: no snapshot names it, and no pull waits for one that will. */
  isWanted(id: string): boolean {
    const use = this.#uses.get(id);
    if (use === undefined) return true;
    if (use.leavingSinceMs !== undefined) return false;
    return use.isLocal || use.awaited !== undefined || use.isHeld !== false;
  }

  /** True between a layer's withdrawal and its end, unless it came back. */
  isLeaving(id: string): boolean {
    return this.#uses.get(id)?.leavingSinceMs !== undefined;
  }

  /** True where a step needs to know what snapshots name: to make room, or to learn what is used. */
  mustLook(layers: readonly CachedLayer[], nowMs: number): boolean {
    this.#measure(layers, nowMs);
    return this.isMoving || this.isFull || nowMs - this.#lookedMs >= CACHE_LOOK_MS;
  }

  /** `held`: layers that snapshots name; undefined where that cannot be known, and so nothing goes. */
  step(layers: readonly CachedLayer[], held: ReadonlySet<string> | undefined, nowMs: number): CacheStep[] {
    this.#measure(layers, nowMs);
    this.#lookedMs = nowMs;
    const steps = held === undefined ? this.#allBack() : this.#lookedAt(layers, held, nowMs);
    if (held !== undefined) steps.push(...this.#withdrawals(layers, held, nowMs));
    return steps;
  }

  /** Which layers are here, and how much of the disk they take. */
  #measure(layers: readonly CachedLayer[], nowMs: number): void {
    const here = new Set(layers.map(({ id }) => id));
    for (const id of this.#uses.keys()) if (!here.has(id)) this.#uses.delete(id);
    for (const { id, usedMs: toldMs, isLocal } of layers) {
      // The date of a file may be ahead: a clock was set back since.
      const usedMs = Math.min(toldMs, nowMs);
      // Of an earlier run: its pull may go on still.
      const awaited = nowMs - usedMs < PULL_MS ? { shownMs: usedMs, signMs: usedMs } : undefined;
      const known = this.#uses.get(id);
      if (known === undefined)
        this.#uses.set(id, { usedMs, awaited, leavingSinceMs: undefined, isHeld: undefined, isLocal });
      else known.isLocal = isLocal;
    }
    this.#usedBytes = layers.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  #allBack(): CacheStep[] {
    const steps: CacheStep[] = [];
    for (const [id, use] of this.#uses) {
      use.isHeld = undefined;
      if (!this.isLeaving(id)) continue;
      use.leavingSinceMs = undefined;
      steps.push({ type: 'show', id });
    }
    return steps;
  }

  #lookedAt(layers: readonly CachedLayer[], held: ReadonlySet<string>, nowMs: number): CacheStep[] {
    this.#inUse = layers.filter(({ id }) => held.has(id)).length;
    const steps: CacheStep[] = [];
    this.#noteSigns(held, nowMs);
    for (const [id, use] of this.#uses) {
      const { leavingSinceMs, awaited } = use;
      if (held.has(id)) {
        if (leavingSinceMs !== undefined) steps.push({ type: 'show', id });
        const now = { usedMs: nowMs, awaited: undefined, leavingSinceMs: undefined, isHeld: true };
        this.#uses.set(id, { ...use, ...now });
        continue;
      }
      use.isHeld = false;
      if (leavingSinceMs !== undefined) {
        if (nowMs - leavingSinceMs >= LEAVING_MS) steps.push({ type: 'remove', id });
      } else if (awaited !== undefined && nowMs - awaited.signMs >= PULL_MS) use.awaited = undefined;
    }
    return steps;
  }

  /** Where a snapshot came for a layer, its pull goes on: those that were shown with it are awaited for as long again. */
  #noteSigns(held: ReadonlySet<string>, nowMs: number): void {
    const uses = [...this.#uses];
    const arrived = uses.flatMap(([id, { awaited }]) =>
      awaited !== undefined && held.has(id) ? [awaited.shownMs] : [],
    );
    for (const [, { awaited }] of uses)
      if (awaited !== undefined && arrived.some((ms) => Math.abs(ms - awaited.shownMs) <= ONE_PULL_MS))
        awaited.signMs = nowMs;
  }

  #withdrawals(layers: readonly CachedLayer[], held: ReadonlySet<string>, nowMs: number): CacheStep[] {
    const staying = layers.filter(({ id }) => !this.isLeaving(id));
    const stayingBytes = staying.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    if (!mustEvict(stayingBytes, this.#budget)) return [];
    const usedMs = ({ id }: CachedLayer): number => this.#uses.get(id)!.usedMs;
    const oldestFirst = staying
      .toSorted((a, b) => usedMs(a) - usedMs(b) || (a.id < b.id ? -1 : 1))
      .map(({ id, sizeBytes, isLocal }) => ({
        digest: id,
        sizeBytes,
        open: isLocal || held.has(id) || this.#uses.get(id)!.awaited !== undefined,
        attrs: { class: 'cached' as const, provenance: [], writtenBack: false },
      }));
    const going = decideEvictions(oldestFirst, stayingBytes, this.#budget).filter(({ evict }) => evict);
    for (const { digest } of going) this.#uses.get(digest)!.leavingSinceMs = nowMs;
    return going.map(({ digest }) => ({ type: 'withdraw', id: digest }));
  }
}
