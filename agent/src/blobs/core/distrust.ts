import { LatestMap } from '@sepia/base/latest-map';
import { DISTRUST_MS, REFUSE_MS } from '../../deadlines.ts';

const MAX_ENTRIES = 10_000;

/**
 * Digests whose whole content came out wrong. Clients may hold a wrong prefix, so resuming is refused for a day;
 * whole bodies get one more fetch, verified before it is served; when that fails as well they are refused for a minute.
 */
export class Distrust {
  readonly #since = new LatestMap<string, { atMs: number; failures: number }>(MAX_ENTRIES);

  /** Notes one more failure and returns how many there were. */
  note(digest: string, nowMs: number): number {
    const failures = (this.#find(digest, nowMs)?.failures ?? 0) + 1;
    this.#since.set(digest, { atMs: nowMs, failures });
    return failures;
  }

  /** `trusted`, `verify-first`, or `refused` for {@link REFUSE_MS} after the second and every further failure. */
  verdict(digest: string, nowMs: number): 'trusted' | 'verify-first' | 'refused' {
    const found = this.#find(digest, nowMs);
    if (found === undefined) return 'trusted';
    return found.failures > 1 && nowMs - found.atMs <= REFUSE_MS ? 'refused' : 'verify-first';
  }

  /** Whether it came out wrong within {@link DISTRUST_MS}. */
  isKnown(digest: string, nowMs: number): boolean {
    return this.#find(digest, nowMs) !== undefined;
  }

  #find(digest: string, nowMs: number): { atMs: number; failures: number } | undefined {
    const found = this.#since.get(digest);
    if (found === undefined || nowMs - found.atMs <= DISTRUST_MS) return found;
    this.#since.delete(digest);
    return undefined;
  }
}
