import { giveBack } from '@sepia/base/chunk';
import { BUFFER_IDLE_MS } from '../deadlines/bodies.ts';
import { BUFFER_BYTES, type BufferSize } from './core/body-windows.ts';

const SIZES = ['large', 'usual', 'small'] as const satisfies readonly BufferSize[];

/** The buffers of all bodies of a process. A buffer has one owner from {@link take} to {@link give}; it comes dirty. */
export class ReadBuffers {
  readonly #free: Record<BufferSize, Buffer[]> = { large: [], usual: [], small: [] };
  readonly #lent: Record<BufferSize, number> = { large: 0, usual: 0, small: 0 };
  #trim: NodeJS.Timeout | undefined;

  /** How many of each kind are lent out. */
  get lent(): Readonly<Record<BufferSize, number>> {
    return this.#lent;
  }

  /** Bytes that are lent out or kept for the next. */
  get heldBytes(): number {
    return SIZES.reduce(
      (sum, size) => sum + (this.#lent[size] + this.#free[size].length) * BUFFER_BYTES[size],
      0,
    );
  }

  take(size: BufferSize): Buffer {
    this.#lent[size] += 1;
    return this.#free[size].pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES[size]);
  }

  give(size: BufferSize, buffer: Buffer): void {
    this.#lent[size] -= 1;
    this.#free[size].push(buffer);
    this.#trim ??= setTimeout(() => this.#trimNow(), BUFFER_IDLE_MS).unref();
  }

  /** Memory that no body needs goes back to the system, without a collection. */
  #trimNow(): void {
    this.#trim = undefined;
    for (const size of SIZES) {
      for (const buffer of this.#free[size]) giveBack(buffer);
      this.#free[size] = [];
    }
  }
}

/** The buffers that all bodies of this process share. */
export const readBuffers = new ReadBuffers();
