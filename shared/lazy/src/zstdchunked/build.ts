import { arrange, trailerOf, type Unfit } from '../estargz/arrange.ts';
import { type BuildOptions, END_OF_TAR, sparseFiles } from '../estargz/build.ts';
import type { WriteDeps } from '../estargz/write.ts';
import type { TarEntry } from '../tar/tar-entry.ts';
import { writeZstdChunked, type ZstdChunkedResult } from './write.ts';

interface BuiltLayer extends ZstdChunkedResult {
  /** Prioritized files that the layer does not have. */
  readonly missing: readonly string[];
}

/**
 * A zstd:chunked layer of a tar whose entries were read. Where nothing has to be moved, dropped or made anew, the tar is kept
 * byte for byte, and so is the DiffID; with prioritized files a landmark ends them, as in eStargz.
 * @returns why it cannot be one, where no TOC can say what the tar says
 * @throws {CodedError} `LAYER_INVALID`
 */
export async function buildZstdChunked(
  deps: WriteDeps,
  entries: readonly TarEntry[],
  options: Pick<BuildOptions, 'level' | 'chunkBytes' | 'prioritized' | 'maxBytes'>,
): Promise<BuiltLayer | Unfit> {
  const sparse = await sparseFiles(deps, entries, options.maxBytes);
  if ('unfit' in sparse) return sparse;
  const { prioritized } = options;
  const how = { sparse, prioritized, plainHeaders: true };
  const plain = arrange(entries, { ...how, withLandmark: false });
  if ('unfit' in plain) return plain;
  const isOrdered = plain.missing.length < prioritized.length;
  const arranged = isOrdered ? arrange(entries, how) : plain;
  if ('unfit' in arranged) return arranged;
  const trailer = plain.isVerbatim ? trailerOf(entries, deps.source.sizeBytes) : END_OF_TAR;
  return { ...(await writeZstdChunked(deps, arranged.entries, options, trailer)), missing: arranged.missing };
}
