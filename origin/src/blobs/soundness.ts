import type { StopStack } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import type { Metrics } from '@sepia/base/metrics';
import type { BlobStore } from '@sepia/store/blob-store';
import type { DiskRoom } from '@sepia/store/disk-room';
import { diskFiles } from '@sepia/store/files/disk-files';
import { DamagedPieces } from '@sepia/store/rot/damaged-pieces';
import { rotCounts } from '@sepia/store/rot/rot-metrics';
import { Scrubber, type ScrubberOptions } from '@sepia/store/scrubber';
import type { Members } from '../cluster/members.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import type { BlobIndex } from './blob-index.ts';
import { Repair } from './repair.ts';

interface SoundnessDeps {
  readonly members: Members;
  readonly store: BlobStore;
  readonly room: DiskRoom;
  readonly index: BlobIndex;
  readonly upstreams: Upstreams;
  readonly metrics: Metrics;
  /** `DIR/v1`. */
  readonly dir: string;
  readonly stops: StopStack;
  readonly log: Logger;
  readonly nowMs: () => number;
  /** The cluster's date, which may be set. */
  readonly dateMs: () => number;
}

/** Keeps stored blobs as they were: what is damaged is mended when somebody reads it, or when the scrub comes by. */
export function soundness(
  deps: SoundnessDeps,
  options: Pick<ScrubberOptions, 'rateBytesPerSec' | 'everyMs'> & { readonly mendMs: number },
): { readonly repair: Repair; readonly scrubber: Scrubber } {
  const { members, store, room, index, upstreams, metrics, dir, stops, log, nowMs, dateMs } = deps;
  const damaged = new DamagedPieces();
  const { onScrubbed, ...rot } = rotCounts(metrics, 'origin', damaged);
  const repair = new Repair({ members, store, upstreams, log, nowMs, rot }, options);
  const scrubber = new Scrubber(
    {
      store,
      files: room.guard(diskFiles),
      dir,
      log,
      damaged,
      nowMs: dateMs,
      mend: async (digest, piece) => await repair.mend(digest, piece),
      onUnreadable: async (digest) => await index.lost(digest),
      expected: () => index.list(),
      onBytes: onScrubbed,
    },
    options,
  );
  stops.push('scrub', async () => await scrubber.stop());
  stops.push('repair', () => repair.stop());
  return { repair, scrubber };
}
