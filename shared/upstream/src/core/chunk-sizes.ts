const MIB = 1024 * 1024;

/** From the largest on: a registry, or a gateway before it, may take less at once (GHCR 4 MiB, nginx as it comes 1 MiB). */
const SIZES = [32 * MIB, 4 * MIB, MIB] as const;

/**
 * How much of a blob a registry takes in one request, as far as it is known: the largest size that it did not refuse as too
 * large, which is tried again after a while.
 */
export class ChunkSizes {
  readonly #keptMs: number;
  #step = 0;
  #untilMs = 0;

  constructor(options: { readonly keptMs: number }) {
    this.#keptMs = options.keptMs;
  }

  /** Bytes of a chunk. */
  bytes(nowMs: number): number {
    if (nowMs >= this.#untilMs) this.#step = 0;
    return SIZES[this.#step]!;
  }

  /** So many bytes at once were too large: true if there is a smaller size left, which counts from now on. */
  tooLarge(refusedBytes: number, nowMs: number): boolean {
    const step = SIZES.findIndex((bytes) => bytes < refusedBytes);
    if (step < 0) return false;
    this.#step = nowMs < this.#untilMs ? Math.max(this.#step, step) : step;
    this.#untilMs = nowMs + this.#keptMs;
    return true;
  }
}
