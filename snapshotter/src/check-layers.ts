import { logFailure } from '@sepia/base/failure';
import type { StopStack } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import type { Metrics } from '@sepia/base/metrics';
import { steadyMs } from '@sepia/base/reach';
import type { ContentCache } from './doors/content-cache.ts';
import { LayerChecker } from './layers/layer-checker.ts';
import type { Layers } from './layers/layers.ts';
import type { LazyLayer } from './layers/lazy-layer.ts';

/** Has whole layers read again; links go to a layer's file once it is found right, and to the mount while it is damaged. */
export function checkLayers(
  parts: {
    readonly layers: Layers;
    readonly door: ContentCache;
    readonly fileOf: (layer: LazyLayer) => string;
    readonly metrics: Metrics;
    readonly log: Logger;
  },
  scrub: { readonly rate: number; readonly every: number },
  stops: StopStack,
): void {
  const { layers, door, fileOf, metrics, log } = parts;
  const found = metrics.counter(
    'sepia_snapshotter_blocks_damaged_total',
    'Blocks (4 KiB) of cached layers that were not as they were written; they are fetched again.',
  );
  const point = async (layer: LazyLayer): Promise<void> => {
    try {
      await door.repoint(layer.index.diffId, fileOf(layer));
    } catch (error) {
      logFailure(log, error, 'a link could not be written');
    }
  };
  const checker = new LayerChecker(
    { log, layers: () => layers.open(), onSound: point, nowMs: steadyMs },
    { rateBytesPerSec: scrub.rate, everyMs: scrub.every },
  );
  stops.push('checker', () => checker.stop());
  layers.follow({
    completed: () => checker.wake(),
    damaged: (layer, blocks) => {
      found.inc(blocks);
      log.warn({ layer: layer.index.layer, blocks }, 'cached content was damaged; it is fetched again');
      void point(layer);
    },
  });
}
