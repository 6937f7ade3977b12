/** What is run at its time. */
export type Run = () => void;

const FEWEST = 1_024;
/** Children of one place of the heap. */
const FAN = 4;

/** What is due next, of equal times what was asked for before: a heap in arrays of numbers. */
export class DueHeap {
  #size = 0;
  #atMs = new Float64Array(FEWEST);
  #orders = new Float64Array(FEWEST);
  /** Its place in `#runs`. */
  #places = new Int32Array(FEWEST);
  readonly #runs: Run[] = [];
  readonly #gaps: number[] = [];

  get size(): number {
    return this.#size;
  }

  /** When the next is due; there must be one. */
  get nextMs(): number {
    return this.#atMs[0]!;
  }

  /** Which number it has among all that were asked for. */
  get nextOrder(): number {
    return this.#orders[0]!;
  }

  /** `order` is greater for whatever is asked for later. */
  push(dueMs: number, order: number, run: Run): void {
    if (this.#size === this.#atMs.length) this.#grow();
    const times = this.#atMs;
    const orders = this.#orders;
    let at = this.#size++;
    while (at > 0) {
      const parent = Math.floor((at - 1) / FAN);
      if (times[parent]! < dueMs || (times[parent] === dueMs && orders[parent]! < order)) break;
      this.#move(parent, at);
      at = parent;
    }
    const slot = this.#gaps.pop() ?? this.#runs.length;
    this.#runs[slot] = run;
    times[at] = dueMs;
    orders[at] = order;
    this.#places[at] = slot;
  }

  /** Takes the next away; there must be one. */
  pop(): Run {
    const slot = this.#places[0]!;
    const run = this.#runs[slot]!;
    this.#runs[slot] = idle;
    this.#gaps.push(slot);
    this.#size -= 1;
    if (this.#size > 0) this.#sink();
    return run;
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
