/** What a process used when it was looked at, and how busy it was since the look before. */
export interface MemoryLook {
  /** Of the heap and beside it, what is in use by objects that live or are not collected yet, in bytes. */
  readonly usedBytes: number;
  /** Share of one core since the look before, 0 to 1 and more. */
  readonly cpuShare: number;
}

/** Busier than this a process collects by itself, and has no time to spare. */
const IDLE_SHARE = 0.1;
/** Busier than this it is in the middle of something: what the start left is collected in a pause of some 0.3 s. */
const RESTING_SHARE = 0.02;
/** What may lie about uncollected: below it a collection gives too little back for its time. In bytes. */
const WORTH_BYTES = 8 * 1024 * 1024;
/** The same, as a share of what was in use after the last collection: a large member creeps more. */
const WORTH_SHARE = 0.1;

/**
 * After a burst a process collects thoroughly too, where that is a pause of well below a second: with up to so much in use, in
 * bytes, and so many looks after the last time at the earliest.
 */
const THOROUGH_BYTES = 96 * 1024 * 1024;
const THOROUGH_LOOKS = 8;

/**
 * How a process is to collect: `usual` frees what nobody holds; `thorough` takes several rounds, drops code that ran at the
 * start, or in a burst alone, as well, and leaves no empty pages.
 */
type Collection = 'usual' | 'thorough';

/**
 * When a process that has become idle should collect its garbage: V8 does so when it allocates, so what a burst left
 * behind would stay for as long as nothing happens. Never while busy; thoroughly when the start is over, and when the process
 * rests after a burst; at most once for each growth after that. Pure.
 */
export class IdleMemory {
  /** In use after the last collection, or the least seen since. */
  #leastBytes = Number.POSITIVE_INFINITY;
  #isStartOver = false;
  #hadBurst = false;
  /** Looks since the last thorough collection. */
  #looks = 0;

  /** How to collect now, then tell {@link collected} what is left; undefined: not now. */
  look({ usedBytes, cpuShare }: MemoryLook): Collection | undefined {
    this.#looks += 1;
    this.#hadBurst ||= cpuShare >= IDLE_SHARE;
    if (cpuShare < RESTING_SHARE && this.#isThoroughDue(usedBytes)) {
      this.#isStartOver = true;
      this.#hadBurst = false;
      this.#looks = 0;
      return 'thorough';
    }
    this.#leastBytes = Math.min(this.#leastBytes, usedBytes);
    const worthBytes = Math.max(WORTH_BYTES, this.#leastBytes * WORTH_SHARE);
    return cpuShare < IDLE_SHARE && usedBytes > this.#leastBytes + worthBytes ? 'usual' : undefined;
  }

  collected(usedBytes: number): void {
    this.#leastBytes = usedBytes;
  }

  #isThoroughDue(usedBytes: number): boolean {
    if (!this.#isStartOver) return true;
    return this.#hadBurst && this.#looks >= THOROUGH_LOOKS && usedBytes <= THOROUGH_BYTES;
  }
}
