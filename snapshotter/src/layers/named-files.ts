import { readFile } from 'node:fs/promises';
import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { LayerIndex } from '@sepia/lazy/index/layer-index';
import { spansOf } from '@sepia/lazy/index/read-span';
import type { FilePlace } from './made-image.ts';

/** Paths of a list; more are not looked at. */
const MAX_PATHS = 200_000;

/**
 * The paths of a list as `sepia lazy profile` writes it: one a line; empty lines and those that begin with `#` do not
 * count. A list that cannot be read is an empty one, with a line in the log: what runs here must be served all the same.
 */
export async function readPaths(file: string | undefined, log: Logger): Promise<readonly string[]> {
  if (file === undefined) return [];
  try {
    const lines = (await readFile(file, 'utf8')).split('\n').map((line) => line.replace(/\r$/, ''));
    return lines.filter((line) => line.trim() !== '' && !line.startsWith('#')).slice(0, MAX_PATHS);
  } catch (error) {
    logFailure(log, error, 'the list of fill-first cannot be read; layers are filled from their start', {
      file,
    });
    return [];
  }
}

/** The spans with the content of these files, each once, in the order of the paths, over all layers. Others are left out. */
export async function spansOfPaths<
  Layer extends {
    readonly index: Pick<LayerIndex, 'spans'>;
    places(paths: readonly string[]): Promise<readonly FilePlace[]>;
  },
>(
  layers: readonly Layer[],
  paths: readonly string[],
): Promise<{ readonly layer: Layer; readonly span: number }[]> {
  if (paths.length === 0) return [];
  const found = layers.map(async (layer) =>
    (await layer.places(paths)).map((place) => ({ layer, ...place })),
  );
  return (await Promise.all(found))
    .flat()
    .sort((a, b) => a.turn - b.turn)
    .flatMap(({ layer, offset, size }) => spansOfBytes(layer, offset, size));
}

/** The spans that hold `[offset, offset + size)` of a layer. */
export function spansOfBytes<Layer extends { readonly index: Pick<LayerIndex, 'spans'> }>(
  layer: Layer,
  offset: number,
  size: number,
): { readonly layer: Layer; readonly span: number }[] {
  const { first, last } = spansOf(layer.index, offset, size);
  return Array.from({ length: last - first + 1 }, (_none, step) => ({ layer, span: first + step }));
}
