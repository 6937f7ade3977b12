import { WAIT_TOLD_MS } from '../deadlines.ts';
import { durationText } from './format.ts';

/** Tells a terminal whom a command waits for, once for each; on anything else nothing is told. */
export class Waits {
  readonly #out: Pick<NodeJS.WriteStream, 'write' | 'isTTY'>;
  readonly #afterMs: number;
  readonly #told = new Set<string>();

  constructor(out: Pick<NodeJS.WriteStream, 'write' | 'isTTY'>, afterMs = WAIT_TOLD_MS) {
    this.#out = out;
    this.#afterMs = afterMs;
  }

  /** What `work` ends with. `limitMs`: `name` is waited for no longer. */
  async of<T>(name: string, limitMs: number, work: Promise<T>): Promise<T> {
    if (this.#out.isTTY !== true || limitMs <= this.#afterMs || this.#told.has(name)) return await work;
    const timer = setTimeout(() => {
      if (this.#told.has(name)) return;
      this.#told.add(name);
      this.#out.write(`Waiting for ${name}, up to ${durationText(limitMs)} …\n`);
    }, this.#afterMs);
    try {
      return await work;
    } finally {
      clearTimeout(timer);
    }
  }
}
