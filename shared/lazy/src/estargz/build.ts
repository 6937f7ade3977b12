import { readSparse } from '../tar/sparse.ts';
import type { TarEntry } from '../tar/tar-entry.ts';
import { arrange, type SparseFile, trailerOf, type Unfit } from './arrange.ts';
import type { Part } from './part.ts';
import {
  ESTARGZ_DEFAULTS,
  type EstargzOptions,
  type EstargzResult,
  type WriteDeps,
  writeEstargz,
} from './write.ts';

/** How an eStargz layer is built from another layer. */
export interface BuildOptions extends EstargzOptions {
  /** Files that a container reads first, in that order. */
  readonly prioritized: readonly string[];
  /** Longest layer that is written, uncompressed, sparse files filled in; longer ones stay as they are. */
  readonly maxBytes: number;
}

/** 4 MiB chunks, the table of contents in the layer, layers up to 256 GiB. */
export const BUILD_DEFAULTS: BuildOptions = {
  ...ESTARGZ_DEFAULTS,
  prioritized: [],
  maxBytes: 256 * 1024 ** 3,
};

export interface BuiltLayer extends EstargzResult {
  /** Prioritized files that the layer does not have. */
  readonly missing: readonly string[];
}

/** Two zero blocks. */
export const END_OF_TAR: readonly Part[] = [{ zeros: 1024 }];

/**
 * An eStargz layer of a tar whose entries were read. With an external TOC, and nothing to move, drop or fill in, the
 * tar is kept byte for byte, and so is the DiffID.
 * @returns why it cannot be one, where no TOC can say what the tar says
 * @throws {CodedError} `LAYER_INVALID`
 */
export async function buildEstargz(
  deps: WriteDeps,
  entries: readonly TarEntry[],
  options: BuildOptions,
): Promise<BuiltLayer | Unfit> {
  const sparse = await sparseFiles(deps, entries, options.maxBytes);
  if ('unfit' in sparse) return sparse;
  const { prioritized } = options;
  if (options.externalToc && prioritized.length === 0) {
    const kept = arrange(entries, { sparse, withLandmark: false });
    if (!('unfit' in kept) && kept.isVerbatim) {
      const trailer = trailerOf(entries, deps.source.sizeBytes);
      return { ...(await writeEstargz(deps, kept.entries, options, trailer)), missing: [] };
    }
  }
  const arranged = arrange(entries, { sparse, prioritized });
  if ('unfit' in arranged) return arranged;
  const trailer = options.externalToc ? END_OF_TAR : [];
  return { ...(await writeEstargz(deps, arranged.entries, options, trailer)), missing: arranged.missing };
}

/**
 * Every sparse file of the layer with zeros in its holes.
 * @returns why not, where the layer would be longer than `maxBytes`
 * @throws {CodedError} `LAYER_INVALID`
 */
export async function sparseFiles(
  { source }: Pick<WriteDeps, 'source'>,
  entries: readonly TarEntry[],
  maxBytes: number,
): Promise<Map<TarEntry, SparseFile> | Unfit> {
  const files = new Map<TarEntry, SparseFile>();
  for (const entry of entries) {
    // A global header that says "sparse" is not what GNU tar writes; the layer is then unfit.
    if (!entry.sparse || entry.usesGlobals) continue;
    const { name, sizeBytes, runs } = await readSparse(entry, async (offset, length) => {
      const bytes = new Uint8Array(length);
      await source.readInto(bytes, offset);
      return bytes;
    });
    const parts: Part[] = [];
    let at = 0;
    for (const run of runs) {
      if (run.fileOffset > at) parts.push({ zeros: run.fileOffset - at });
      parts.push({ from: run.archiveOffset, length: run.length });
      at = run.fileOffset + run.length;
    }
    if (sizeBytes > at) parts.push({ zeros: sizeBytes - at });
    files.set(entry, { name, sizeBytes, parts });
  }
  const filledBytes = [...files.values()].reduce((sum, file) => sum + file.sizeBytes, source.sizeBytes);
  if (filledBytes > maxBytes)
    return {
      unfit: `it is ${filledBytes} bytes long with its sparse files filled in; the limit is ${maxBytes}`,
    };
  return files;
}
