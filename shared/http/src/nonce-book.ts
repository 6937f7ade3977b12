/** Nonces of this long are kept together and forgotten together, in ms. */
const BUCKET_MS = 10_000;
/** Slots of a new bucket; it doubles when half of them are taken. */
const FIRST_SLOTS = 1024;

export interface NonceBookOptions {
  /** A nonce is remembered at least this long, in ms. */
  readonly keepMs: number;
  /** Nonces remembered at once. */
  readonly max: number;
}

/** What becomes of a nonce: it is new and now known, it was known, or there is no room to remember it. */
export type NonceAnswer = 'new' | 'seen' | 'full';

/**
 * Nonces seen of late, in buckets by time of arrival, so that forgetting costs nothing per nonce. Keeps the first 64 of
 * a nonce's 128 random bits: 8 bytes in an open-addressed table, 16 to 32 with its free slots. Two of 2 million
 * nonces share those bits with a chance of 10⁻⁷; the second call would be refused, never a replay taken.
 */
export class NonceBook {
  readonly #options: NonceBookOptions;
  #buckets: Bucket[] = [];
  #size = 0;

  constructor(options: NonceBookOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#size;
  }

  /** `nonceHex`: 32 hex digits. `nowMs` is of a clock that never goes back. */
  take(nonceHex: string, nowMs: number): NonceAnswer {
    this.#forget(nowMs);
    const high = Number.parseInt(nonceHex.slice(0, 8), 16);
    // The pair 0, 0 marks a free slot.
    const low = Number.parseInt(nonceHex.slice(8, 16), 16) || (high === 0 ? 1 : 0);
    if (this.#buckets.some((bucket) => bucket.has(high, low))) return 'seen';
    if (this.#size >= this.#options.max) return 'full';
    let last = this.#buckets.at(-1);
    if (last === undefined || nowMs >= last.startMs + BUCKET_MS) {
      last = new Bucket(nowMs);
      this.#buckets.push(last);
    }
    last.add(high, low);
    this.#size += 1;
    return 'new';
  }

  #forget(nowMs: number): void {
    const isOver = ({ startMs }: Bucket): boolean => nowMs - startMs > this.#options.keepMs + BUCKET_MS;
    while (this.#buckets[0] !== undefined && isOver(this.#buckets[0])) {
      this.#size -= this.#buckets[0].size;
      this.#buckets.shift();
    }
  }
}

/** A set of pairs of 32-bit numbers, none of them 0, 0. */
class Bucket {
  readonly startMs: number;
  size = 0;
  #slots = new Uint32Array(FIRST_SLOTS * 2);

  constructor(startMs: number) {
    this.startMs = startMs;
  }

  has(high: number, low: number): boolean {
    const at = this.#slotOf(high, low);
    return this.#slots[at] !== 0 || this.#slots[at + 1] !== 0;
  }

  add(high: number, low: number): void {
    if ((this.size + 1) * 4 > this.#slots.length) this.#grow();
    const at = this.#slotOf(high, low);
    this.#slots[at] = high;
    this.#slots[at + 1] = low;
    this.size += 1;
  }

  /** Index of the pair, or of the free slot where it would go. */
  #slotOf(high: number, low: number): number {
    const mask = this.#slots.length / 2 - 1;
    for (let slot = low & mask; ; slot = (slot + 1) & mask) {
      const at = slot * 2;
      const isFree = this.#slots[at] === 0 && this.#slots[at + 1] === 0;
      if (isFree || (this.#slots[at] === high && this.#slots[at + 1] === low)) return at;
    }
  }

  #grow(): void {
    const old = this.#slots;
    this.#slots = new Uint32Array(old.length * 2);
    for (let at = 0; at < old.length; at += 2) {
      const [high, low] = [old[at]!, old[at + 1]!];
      if (high === 0 && low === 0) continue;
      const to = this.#slotOf(high, low);
      this.#slots[to] = high;
      this.#slots[to + 1] = low;
    }
  }
}
