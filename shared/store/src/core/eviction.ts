import type { BlobAttrs } from '../sidecar.ts';

/** A blob that could go, oldest access first in the list given. */
export interface EvictionCandidate {
  readonly digest: string;
  readonly sizeBytes: number;
  /** True while somebody reads it. */
  readonly open: boolean;
  readonly attrs: BlobAttrs;
}

/** Why a blob goes or stays. */
export type EvictionReason = 'least-recently-used' | 'open' | 'not-written-back' | 'low-watermark';

/** What is decided of one candidate. */
export interface EvictionDecision {
  readonly digest: string;
  readonly evict: boolean;
  readonly reason: EvictionReason;
}

/** Budget in bytes with two watermarks, as fractions of it. */
export interface Budget {
  readonly budgetBytes: number;
  readonly highWatermark: number;
  readonly lowWatermark: number;
}

/** The budget as configs say it: bytes, and shares of them. */
export function budgetOf(cache: {
  readonly budget: number;
  readonly high: number;
  readonly low: number;
}): Budget {
  return { budgetBytes: cache.budget, highWatermark: cache.high, lowWatermark: cache.low };
}

/** True once usage is above the high watermark: then evict down to the low one. */
export function mustEvict(usedBytes: number, budget: Budget): boolean {
  return usedBytes > budget.budgetBytes * budget.highWatermark;
}

/** Why a blob may not go at all, or undefined. */
export function keepReason(candidate: Pick<EvictionCandidate, 'open' | 'attrs'>): EvictionReason | undefined {
  if (candidate.open) return 'open';
  if (candidate.attrs.class === 'pushed' && !candidate.attrs.writtenBack) return 'not-written-back';
  return undefined;
}

/** Goes through `oldestFirst` and lets blobs go until usage is at or below the low watermark. One decision a candidate. */
export function decideEvictions(
  oldestFirst: readonly EvictionCandidate[],
  usedBytes: number,
  budget: Budget,
): EvictionDecision[] {
  const target = budget.budgetBytes * budget.lowWatermark;
  let left = usedBytes;
  return oldestFirst.map((candidate) => {
    const { digest } = candidate;
    if (left <= target) return { digest, evict: false, reason: 'low-watermark' };
    const keep = keepReason(candidate);
    if (keep !== undefined) return { digest, evict: false, reason: keep };
    left -= candidate.sizeBytes;
    return { digest, evict: true, reason: 'least-recently-used' };
  });
}
