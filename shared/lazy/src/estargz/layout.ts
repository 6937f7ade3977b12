import { CodedError } from '@sepia/base/errors';
import { cleanName, type TocEntry } from './toc.ts';

/** One chunk of a file's content as a reader needs it: nothing left out. */
export interface Chunk {
  /** Where its member begins in the blob. */
  readonly offset: number;
  /** Where its last member ends; undefined: at the next chunk's, or with more behind it. */
  readonly endOffset?: number;
  readonly innerOffset: number;
  /** Position in the file. */
  readonly chunkOffset: number;
  readonly sizeBytes: number;
  /** `sha256:…` */
  readonly digest: string;
}

/** An entry of a layer, read from its TOC with everything filled in that the TOC leaves out. */
export interface LayerFile {
  /** Clean path; the root is the empty text. */
  readonly path: string;
  readonly entry: TocEntry;
  readonly userName: string;
  readonly groupName: string;
  /** Content in order; empty for everything but files with content. */
  readonly chunks: readonly Chunk[];
}

/**
 * The entries of a TOC, checked: chunks follow their file and cover it exactly, member offsets never fall and lie before
 * the TOC, paths are there once.
 * @param dataEnd where the last member ends: the TOC's offset, or the footer's where the TOC is elsewhere
 * @param isZstd as containers/storage writes TOCs: a file of one chunk may have the file's digest only
 * @throws {CodedError} `MANIFEST_SYNTAX` that names the entry
 */
export function layoutOf(toc: readonly TocEntry[], dataEnd: number, isZstd = false): LayerFile[] {
  const files: LayerFile[] = [];
  const paths = new Set<string>();
  const users = new Map<number, string>();
  const groups = new Map<number, string>();
  let lastOffset = 0;
  let lastInner = -1;
  for (let index = 0; index < toc.length; ) {
    const entry = toc[index]!;
    const path = cleanName(entry.name);
    const shown = JSON.stringify(entry.name.slice(0, 200));
    if (entry.type === 'chunk') throw wrong(`the chunk ${shown} has no file before it`);
    if (paths.has(path)) throw wrong(`${shown} is there twice`);
    paths.add(path);
    let end = index + 1;
    while (toc[end]?.type === 'chunk') end += 1;
    const chunks = chunksOf(toc.slice(index, end), shown, isZstd);
    for (const chunk of chunks) {
      const isLater =
        chunk.offset > lastOffset || (chunk.offset === lastOffset && chunk.innerOffset > lastInner);
      const { endOffset = dataEnd } = chunk;
      if (!isLater || chunk.offset >= endOffset || endOffset > dataEnd)
        throw wrong(`a chunk of ${shown} lies at ${chunk.offset}, out of order`);
      lastOffset = chunk.offset;
      lastInner = chunk.innerOffset + chunk.sizeBytes - 1;
    }
    files.push({
      path,
      entry,
      userName: nameOf(users, entry.uid ?? 0, entry.userName),
      groupName: nameOf(groups, entry.gid ?? 0, entry.groupName),
      chunks,
    });
    index = end;
  }
  return files;
}

function chunksOf(entries: readonly TocEntry[], shown: string, isZstd: boolean): Chunk[] {
  const [file] = entries;
  const sizeBytes = file?.size ?? 0;
  if (file?.type !== 'reg' || sizeBytes === 0) {
    if (entries.length > 1) throw wrong(`${shown} has chunks but no content`);
    return [];
  }
  let at = 0;
  const isOnly = entries.length === 1;
  const fileEnd = isZstd ? (entries.at(-1)?.endOffset ?? file.endOffset) : undefined;
  const chunks = entries.map((entry, index) => {
    const { offset = 0, innerOffset = 0, chunkOffset = 0 } = entry;
    const { chunkDigest = (isZstd && isOnly ? file.digest : undefined) ?? '' } = entry;
    const chunkBytes = entry.chunkSize ?? sizeBytes - chunkOffset;
    if (chunkOffset !== at || chunkBytes <= 0 || at + chunkBytes > sizeBytes)
      throw wrong(`the chunk at ${chunkOffset} of ${shown} does not follow the one before`);
    if (!/^sha256:[0-9a-f]{64}$/.test(chunkDigest)) throw wrong(`a chunk of ${shown} has no digest`);
    at += chunkBytes;
    const isEnd = index === entries.length - 1 && fileEnd !== undefined;
    return {
      offset,
      ...(isEnd ? { endOffset: fileEnd } : {}),
      innerOffset,
      chunkOffset,
      sizeBytes: chunkBytes,
      digest: chunkDigest,
    };
  });
  if (at !== sizeBytes) throw wrong(`the chunks of ${shown} hold ${at} of ${sizeBytes} bytes`);
  return chunks;
}

function nameOf(seen: Map<number, string>, id: number, name: string | undefined): string {
  if (name === undefined || name === '') return seen.get(id) ?? '';
  seen.set(id, name);
  return name;
}

function wrong(message: string): CodedError {
  return new CodedError('MANIFEST_SYNTAX', { message: `TOC: ${message}` });
}
