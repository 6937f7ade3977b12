/** One step of a process is atomic; the scheduler chooses who makes the next. */
export type Process = Generator<void, void, void>;

/** Runs processes step by step in an order by chance, on a clock of its own; some hang for long. */
export class Scheduler {
  nowMs = 1_000_000;
  readonly running: Process[] = [];
  readonly #frozen: Process[] = [];
  readonly chance: () => number;

  constructor(chance: () => number) {
    this.chance = chance;
  }

  pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.chance() * list.length)]!;
  }

  /** Runs one step of somebody. False if nobody runs. */
  step(): boolean {
    this.#freeze();
    const at = Math.floor(this.chance() * this.running.length);
    const process = this.running[at];
    if (process === undefined) return false;
    this.nowMs += Math.floor(this.chance() * 40);
    if (process.next().done === true) this.kill(process);
    return true;
  }

  /** A member hangs now and then for thousands of steps of the others. */
  #freeze(): void {
    if (this.running.length > 1 && this.chance() < 0.003) {
      const process = this.pick(this.running);
      this.kill(process);
      this.#frozen.push(process);
    }
    if (this.#frozen.length > 0 && (this.running.length === 0 || this.chance() < 0.0005))
      this.running.push(this.#frozen.shift()!);
  }

  /** Runs or hangs. */
  isRunning(process: Process): boolean {
    return this.running.includes(process) || this.#frozen.includes(process);
  }

  kill(process: Process): void {
    const at = this.running.indexOf(process);
    if (at < 0) return;
    const last = this.running.pop();
    if (last !== undefined && at < this.running.length) this.running[at] = last;
  }

  settle(): void {
    while (this.step() || this.#frozen.length > 0);
  }
}
