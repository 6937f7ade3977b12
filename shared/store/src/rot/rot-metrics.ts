import type { Digest } from '@sepia/base/digest';
import type { Metrics } from '@sepia/base/metrics';
import type { DamagedPieces } from './damaged-pieces.ts';

/** What a store's member counts of damage on its disk. */
export interface RotCounts {
  /** Bytes of stored blobs were read again and are right. */
  readonly onScrubbed: (bytes: number) => void;
  /** A piece did not match its hash. */
  readonly onRotten: () => void;
  /** A right copy was written over it. */
  readonly onMended: (digest: Digest, piece: number) => void;
  /** It stays as it is: nobody had a right copy, or the disk did not take it. */
  readonly onUnmended: (digest: Digest, piece: number) => void;
}

/**
 * What is told of damage on disk: `sepia_<role>_pieces_rotten_total`, `…_pieces_mended_total`, `…_scrubbed_bytes_total`, and in
 * `…_pieces_damaged` what is not mended, as `damaged` holds it.
 */
export function rotCounts(metrics: Metrics, role: 'origin' | 'agent', damaged: DamagedPieces): RotCounts {
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
  metrics.gauge(
    `sepia_${role}_pieces_damaged`,
    'Pieces on this disk that are damaged and of which no right copy was found yet.',
    () => damaged.size,
  );
  return {
    onScrubbed: (bytes) => scrubbed.inc(bytes),
    onRotten: () => rotten.inc(),
    onMended: (digest, piece) => {
      mended.inc();
      damaged.forget(digest, piece);
    },
    onUnmended: (digest, piece) => damaged.note(digest, piece),
  };
}
