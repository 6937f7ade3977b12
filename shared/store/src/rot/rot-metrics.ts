import type { Metrics } from '@sepia/base/metrics';

/** What a store's member counts of damage on its disk. */
export interface RotCounts {
  /** A piece did not match its hash. */
  readonly onRotten: () => void;
  /** A right copy was written over it. */
  readonly onMended: () => void;
}

/** Counters of damage on disk: `sepia_<role>_pieces_rotten_total`, `…_pieces_mended_total`. */
export function rotCounts(metrics: Metrics, role: 'origin' | 'agent'): RotCounts {
  const rotten = metrics.counter(
    `sepia_${role}_pieces_rotten_total`,
    'Pieces of stored blobs that were found damaged on disk.',
  );
  const mended = metrics.counter(
    `sepia_${role}_pieces_mended_total`,
    'Damaged pieces that were written again from a right copy.',
  );
  return {
    onRotten: () => rotten.inc(),
    onMended: () => mended.inc(),
  };
}
