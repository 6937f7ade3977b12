import { logFailure } from '@sepia/base/failure';
import type { StopStack } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import type { FuseServer } from './fuse/fuse-server.ts';
import type { CacheKeeper } from './layers/cache-keeper.ts';
import { type FillPolicy, fillsRest } from './layers/core/fill.ts';
import { Filler } from './layers/filler.ts';
import type { Layers } from './layers/layers.ts';
import type { LazyLayer } from './layers/lazy-layer.ts';
import type { ImageTable } from './offers/image-table.ts';
import type { StartReads } from './offers/start-reads.ts';

/** Fetches what starts read first, and as the policy says what nobody reads, where there is room for it. */
export function fillLayers(
  parts: {
    readonly layers: Layers;
    readonly starts: StartReads;
    /** `lastReadMs`: when programs waited last. */
    readonly mount: { readonly fuse: Pick<FuseServer, 'missing'>; readonly lastReadMs: () => number };
    readonly cache: Pick<CacheKeeper, 'mayFill'> | undefined;
    /** Those that were pulled. */
    readonly images: Pick<ImageTable, 'smallestWith'> | undefined;
    readonly log: Logger;
  },
  policy: FillPolicy,
  stops: StopStack,
): void {
  const { layers, starts, mount, cache, images, log } = parts;
  if (policy === 'none') return;
  starts
    .addListed(layers.shown())
    .catch((error: unknown) => logFailure(log, error, 'the files of fill-first are not fetched first'));
  const mayFill = (): LazyLayer[] => layers.shown().filter((layer) => cache?.mayFill(layer) !== false);
  const imageBytes = (layer: LazyLayer): number =>
    images?.smallestWith(layer.index.layer) ?? layers.leastImageBytes(layer);
  const filler = new Filler({
    log,
    layers: mayFill,
    rest: () => mayFill().filter((layer) => fillsRest(policy, imageBytes(layer))),
    first: starts.spans,
    addFirst: (spans) => starts.add(spans),
    firstAdded: async (signal) => await starts.added(signal),
    reads: () => ({ waiting: mount.fuse.missing, lastReadMs: mount.lastReadMs() }),
    nowMs: () => performance.now(),
  });
  stops.push('filler', () => filler.stop());
}
