import { readFile } from 'node:fs/promises';
import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { LayerIndex } from '@sepia/lazy/index/layer-index';
import { spansOf } from '@sepia/lazy/index/read-span';
import { byteStringOf } from '@sepia/lazy/tar/byte-string';
import { cleanPath } from '@sepia/lazy/tar/tar-entry';

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

/** The spans with the content of these files of a layer, each once, in the order of the paths. Others are left out. */
export function spansOfPaths(index: LayerIndex, paths: readonly string[]): readonly number[] {
  if (paths.length === 0) return [];
  const byPath = new Map(index.entries.map((entry) => [entry.path, entry]));
  const spans = new Set<number>();
  for (const text of paths) {
    const named = byPath.get(cleanPath(byteStringOf(text)));
    const entry = named?.type === 'hardlink' ? byPath.get(named.link) : named;
    if (entry?.type !== 'file' || entry.size === 0) continue;
    const { first, last } = spansOf(index, entry.offset, entry.size);
    for (let span = first; span <= last; span++) spans.add(span);
  }
  return [...spans];
}
