import type { Metrics } from '@sepia/base/metrics';

/** What a store's member counts of damage on its disk. */
export interface RotCounts {
  /** Bytes of stored blobs were read again and are right. */
  readonly onScrubbed: (bytes: number) => void;
  /** A piece did not match its hash. */
  readonly onRotten: () => void;
  /** A right copy was written over it. */
  readonly onMended: () => void;
}

/** Counters of damage on disk: `sepia_<role>_pieces_rotten_total`, `…_pieces_mended_total`, `…_scrubbed_bytes_total`. */
export function rotCounts(metrics: Metrics, role: 'origin' | 'agent'): RotCounts {
  const rotten = metrics.counter(
    `sepia_${role}_pieces_rotten_total`,
    'Pieces of stored blobs that were found damaged on disk.',
  );
  const mended = metrics.counter(
    `sepia_${role}_pieces_mended_total`,
    'Damaged pieces that were written again from a right copy.',
  );
  const scrubbed = metrics.counter(
    `sepia_${role}_scrubbed_bytes_total`,
    'Bytes of stored blobs that were read again to look for damage, and are right.',
  );
  return {
    onScrubbed: (bytes) => scrubbed.inc(bytes),
    onRotten: () => rotten.inc(),
    onMended: () => mended.inc(),
  };
}

/** Damage that is not mended: `sepia_<role>_pieces_damaged`. */
export function damageGauge(
  metrics: Metrics,
  role: 'origin' | 'agent',
  scrubber: { readonly damaged: { readonly pieces: number } },
): void {
  metrics.gauge(
    `sepia_${role}_pieces_damaged`,
    'Pieces on this disk that are damaged and of which no right copy was found yet.',
    () => scrubber.damaged.pieces,
  );
}
