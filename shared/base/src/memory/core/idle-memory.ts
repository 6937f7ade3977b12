/** What a process used when it was looked at, and how busy it was since the look before. */
export interface MemoryLook {
  /** Of the heap and beside it, what is in use by objects that live or are not collected yet, in bytes. */
  readonly usedBytes: number;
  /** Share of one core since the look before, 0 to 1 and more. */
  readonly cpuShare: number;
}

/** Busier than this a process collects by itself, and has no time to spare. */
const IDLE_SHARE = 0.1;
/** What may lie about uncollected: below it a collection gives too little back for its time. In bytes. */
const WORTH_BYTES = 8 * 1024 * 1024;
/** The same, as a share of what was in use after the last collection: a large member creeps more. */
const WORTH_SHARE = 0.1;

/**
 * When a process that has become idle should collect its garbage: V8 does so when it allocates, so what a burst left
 * behind would stay for as long as nothing happens. Never while busy; at most once for each growth. Pure.
 */
export class IdleMemory {
  /** In use after the last collection, or the least seen since. */
  #leastBytes = Number.POSITIVE_INFINITY;

  /** True: collect now, and tell {@link collected} what is left. */
  look({ usedBytes, cpuShare }: MemoryLook): boolean {
    this.#leastBytes = Math.min(this.#leastBytes, usedBytes);
    const worthBytes = Math.max(WORTH_BYTES, this.#leastBytes * WORTH_SHARE);
    return cpuShare < IDLE_SHARE && usedBytes > this.#leastBytes + worthBytes;
  }

  collected(usedBytes: number): void {
    this.#leastBytes = usedBytes;
  }
}
