import type { StopStack } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import type { Metrics } from '@sepia/base/metrics';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { BlobStore } from '@sepia/store/blob-store';
import type { FilePort } from '@sepia/store/files/file-port';
import { DamagedPieces } from '@sepia/store/rot/damaged-pieces';
import { rotCounts } from '@sepia/store/rot/rot-metrics';
import { Scrubber, type ScrubberOptions } from '@sepia/store/scrubber';
import type { ClusterGuide } from '../downloads/guide.ts';
import { CachedBlobs } from './cached-blobs.ts';
import type { Seeds } from './seeds.ts';

interface SoundnessDeps {
  readonly store: BlobStore;
  readonly files: FilePort;
  /** `DIR/v1`. */
  readonly dir: string;
  readonly seeds: Seeds;
  readonly guideOf: (name: BlobName) => ClusterGuide;
  readonly onBytes: (source: 'origin', bytes: number) => void;
  readonly metrics: Metrics;
  readonly stops: StopStack;
  readonly log: Logger;
  /** The cluster's date. */
  readonly dateMs: () => number;
}

/** The cached blobs, and the scrub that finds what rotted among them; both mend it by the origins. */
export function soundness(
  deps: SoundnessDeps,
  options: Pick<ScrubberOptions, 'rateBytesPerSec' | 'everyMs'>,
): { readonly cached: CachedBlobs; readonly scrubber: Scrubber } {
  const { store, files, dir, metrics, stops, log, dateMs } = deps;
  const damaged = new DamagedPieces();
  const rot = rotCounts(metrics, 'agent', damaged);
  const cached = new CachedBlobs({ ...deps, rot });
  const scrubber = new Scrubber(
    {
      store,
      files,
      dir,
      log,
      damaged,
      nowMs: dateMs,
      mend: async (...piece) => await cached.mend(...piece),
      onBytes: rot.onScrubbed,
    },
    options,
  );
  stops.push('scrub', async () => await scrubber.stop());
  return { cached, scrubber };
}
