import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { digestHex } from '@sepia/base/digest';
import { compressedRange, readIndexSpans } from '@sepia/lazy/index/layer-index';
import { MIB } from './figures.ts';

/** A snapshotter's map of a layer has so many bytes before its bits. */
const MAP_HEADER_BYTES = 64;

/** Bytes of the pieces (1 MiB) that cover the spans which a snapshotter with its files in `dir` holds of these layers. */
export function touchedBytes(indexFiles: readonly string[], dir: string): number {
  const maps = readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter(
    (path) => basename(path) === 'map',
  );
  return indexFiles.reduce((sum, file) => {
    const index = readIndexSpans(readFileSync(file));
    const map = maps.find((path) => basename(dirname(path)).startsWith(digestHex(index.diffId)));
    if (map === undefined) throw new Error(`the snapshotter has no layer ${index.diffId}`);
    const bits = readFileSync(join(dir, map)).subarray(MAP_HEADER_BYTES);
    const pieces = new Set<number>();
    for (let span = 0; span < index.spans.length; span++) {
      const { start, end } = compressedRange(index, span);
      if ((bits[span >> 3]! & (1 << (span & 7))) === 0) continue;
      for (let piece = Math.floor(start / MIB); piece * MIB < end; piece++) pieces.add(piece);
    }
    return (
      sum + [...pieces].reduce((all, piece) => all + Math.min(MIB, index.compressedBytes - piece * MIB), 0)
    );
  }, 0);
}
