import { FORGOTTEN_MS } from '../../deadlines.ts';

/** Bytes of a blob. */
export interface BlobRange {
  readonly digest: string;
  readonly start: number;
  readonly end: number;
}

const MAX_RANGES = 1_000;

/**
 * Ranges that were waited for in vain a moment ago. One read of a program is several of the kernel, one after the
 * other: what it reads ahead, then each page. Pure: time is passed in, in ms.
 */
export class SilentRanges {
  #ranges: (BlobRange & { readonly untilMs: number })[] = [];

  /** Notes that a wait for these bytes was in vain. */
  note(range: BlobRange, nowMs: number): void {
    const left = this.#ranges.filter((one) => one.untilMs > nowMs && !isWithin(one, range));
    this.#ranges = [...left, { ...range, untilMs: nowMs + FORGOTTEN_MS }].slice(-MAX_RANGES);
  }

  /** Whether bytes of it were waited for in vain a moment ago. */
  has({ digest, start, end }: BlobRange, nowMs: number): boolean {
    return this.#ranges.some(
      (one) => one.untilMs > nowMs && one.digest === digest && one.start < end && start < one.end,
    );
  }

  /** Forgets all of them: somebody answers again. */
  clear(): void {
    this.#ranges = [];
  }
}

function isWithin(inner: BlobRange, outer: BlobRange): boolean {
  return inner.digest === outer.digest && inner.start >= outer.start && inner.end <= outer.end;
}
