type Run = () => void;

/** Between two words on how far a run is. */
export const STEPS_A_WORD = 2 ** 17;
const FEWEST = 1_024;
/** Children of one place of the heap. */
const FAN = 4;

/**
 * A virtual clock: runs what is due in order of time, then of asking. A heap in arrays of numbers, which a run of thousands of nodes
 * goes through 10⁹ times.
 */
export class VirtualClock {
  nowMs = 0;
  #size = 0;
  #order = 0;
  #atMs = new Float64Array(FEWEST);
  #orders = new Float64Array(FEWEST);
  /** Its place in `#runs`. */
  #places = new Int32Array(FEWEST);
  readonly #runs: Run[] = [];
  readonly #gaps: number[] = [];

  at(atMs: number, run: Run): void {
    if (this.#size === this.#atMs.length) this.#grow();
    const dueMs = Math.max(atMs, this.nowMs);
    const times = this.#atMs;
    let at = this.#size++;
    while (at > 0) {
      const parent = Math.floor((at - 1) / FAN);
      // Of equal times what was asked for before comes first.
      if (times[parent]! <= dueMs) break;
      this.#move(parent, at);
      at = parent;
    }
    const slot = this.#gaps.pop() ?? this.#runs.length;
    this.#runs[slot] = run;
    times[at] = dueMs;
    this.#orders[at] = this.#order++;
    this.#places[at] = slot;
  }

  /** Runs the next entry; false when there is none. */
  step(): boolean {
    if (this.#size === 0) return false;
    this.nowMs = this.#atMs[0]!;
    const slot = this.#places[0]!;
    const run = this.#runs[slot]!;
    this.#runs[slot] = idle;
    this.#gaps.push(slot);
    this.#size -= 1;
    if (this.#size > 0) this.#sink();
    run();
    return true;
  }

  /** The first place is empty: what comes next takes it, and the last entry the gap that is left. */
  #sink(): void {
    const times = this.#atMs;
    const orders = this.#orders;
    const size = this.#size;
    const lastMs = times[size]!;
    const lastOrder = orders[size]!;
    let at = 0;
    for (let first = 1; first < size; first = at * FAN + 1) {
      const end = Math.min(first + FAN, size);
      let least = first;
      for (let child = first + 1; child < end; child++)
        if (
          times[child]! < times[least]! ||
          (times[child] === times[least] && orders[child]! < orders[least]!)
        )
          least = child;
      if (times[least]! > lastMs || (times[least] === lastMs && orders[least]! > lastOrder)) break;
      this.#move(least, at);
      at = least;
    }
    this.#move(size, at);
  }

  #move(from: number, to: number): void {
    this.#atMs[to] = this.#atMs[from]!;
    this.#orders[to] = this.#orders[from]!;
    this.#places[to] = this.#places[from]!;
  }

  #grow(): void {
    const length = this.#size * 2;
    const [times, orders, slots] = [
      new Float64Array(length),
      new Float64Array(length),
      new Int32Array(length),
    ];
    times.set(this.#atMs);
    orders.set(this.#orders);
    slots.set(this.#places);
    [this.#atMs, this.#orders, this.#places] = [times, orders, slots];
  }
}

/** Stands where what has run was, so that nothing of it is held. */
function idle(): void {}
