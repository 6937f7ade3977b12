import { DueHeap, type Run } from './due-heap.ts';

/** Between two words on how far a run is. */
export const STEPS_A_WORD = 2 ** 17;
/** So long is the time of one drawer, ms, and so many are open. */
const DRAWER_MS = 1 / 32;
const DRAWERS = 4_096;

/** What is due within the time of one drawer, in order of asking. */
interface Drawer {
  size: number;
  readonly atMs: number[];
  readonly orders: number[];
  readonly runs: Run[];
}

/**
 * A virtual clock: runs what is due in order of time, then of asking. A run of thousands of nodes has a million entries and goes
 * through 10⁹: so only what is due in this moment is in a heap, which is small and at hand; what comes soon lies in drawers, each
 * for a stretch of time, and what comes later on a pile.
 */
export class VirtualClock {
  nowMs = 0;
  #order = 0;
  /** What is in the drawer of this moment, and in those before. */
  readonly #now = new DueHeap();
  #drawer = 0;
  readonly #drawers: (Drawer | undefined)[] = new Array<undefined>(DRAWERS).fill(undefined);
  /** Entries in drawers. */
  #soon = 0;
  readonly #later = new DueHeap();
  /** Drawers that are empty, to be used again. */
  readonly #spare: Drawer[] = [];

  at(atMs: number, run: Run): void {
    const dueMs = Math.max(atMs, this.nowMs);
    const drawer = drawerOf(dueMs);
    if (drawer <= this.#drawer) this.#now.push(dueMs, this.#order++, run);
    else if (drawer < this.#drawer + DRAWERS) this.#put(drawer, dueMs, this.#order++, run);
    else this.#later.push(dueMs, this.#order++, run);
  }

  /** Runs the next entry; false when there is none. */
  step(): boolean {
    if (this.#now.size === 0 && !this.#open()) return false;
    this.nowMs = this.#now.nextMs;
    this.#now.pop()();
    return true;
  }

  /** Opens the next drawer with something in it; false when there is none. */
  #open(): boolean {
    if (this.#soon === 0 && this.#later.size === 0) return false;
    if (this.#soon === 0) this.#drawer = drawerOf(this.#later.nextMs) - 1;
    let drawer: Drawer | undefined;
    while (drawer === undefined) {
      this.#drawer += 1;
      const at = this.#drawer % DRAWERS;
      // The one that was opened last is the furthest away now.
      this.#bring();
      drawer = this.#drawers[at];
      this.#drawers[at] = undefined;
      if (this.#now.size > 0 && drawer === undefined) return true;
    }
    for (let at = 0; at < drawer.size; at++)
      this.#now.push(drawer.atMs[at]!, drawer.orders[at]!, drawer.runs[at]!);
    this.#soon -= drawer.size;
    drawer.runs.fill(idle, 0, drawer.size);
    drawer.size = 0;
    this.#spare.push(drawer);
    return true;
  }

  /** Puts what is near enough by now from the pile into its drawer. */
  #bring(): void {
    const later = this.#later;
    while (later.size > 0 && drawerOf(later.nextMs) < this.#drawer + DRAWERS) {
      const dueMs = later.nextMs;
      const order = later.nextOrder;
      const drawer = drawerOf(dueMs);
      const run = later.pop();
      if (drawer <= this.#drawer) this.#now.push(dueMs, order, run);
      else this.#put(drawer, dueMs, order, run);
    }
  }

  #put(number: number, dueMs: number, order: number, run: Run): void {
    const at = number % DRAWERS;
    let drawer = this.#drawers[at];
    if (drawer === undefined) {
      drawer = this.#spare.pop() ?? { size: 0, atMs: [], orders: [], runs: [] };
      this.#drawers[at] = drawer;
    }
    const place = drawer.size++;
    drawer.atMs[place] = dueMs;
    drawer.orders[place] = order;
    drawer.runs[place] = run;
    this.#soon += 1;
  }
}

function drawerOf(ms: number): number {
  return Math.floor(ms / DRAWER_MS);
}

/** Stands where what has run was, so that nothing of it is held. */
function idle(): void {}
