import { createHash } from 'node:crypto';
import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { isWhiteout, type TreeNode } from '../erofs/layer-tree.ts';
import type { LayerEntry } from '../index/layer-entry.ts';
import { type SpanToWrite, storeWindow, writeIndex } from '../index/layer-index.ts';
import type { MadeIndex } from '../index/layer-indexer.ts';
import { encodeCuts, MAX_SPAN_CHUNKS } from '../index/span-chunks.ts';
import type { ReadAt } from '../pack/inflate.ts';
import { type ByteString, textOf } from '../tar/byte-string.ts';
import { unpack } from './chunk-info.ts';
import { invalid, isPlainChunk, type RafsBlob, type RafsChunk, WHITEOUT } from './format.ts';
import type { ReadBootstrap } from './read-bootstrap.ts';

/** Uncompressed bytes of a span of several chunks, at most; one chunk may be longer. */
const SPAN_BYTES = 1024 * 1024;
/** Bytes of a data blob that are one span: chunks may be longer than what they hold. */
const PACKED_BYTES = 2 * SPAN_BYTES;
const MAX_ENTRIES = 2_000_000;
/** More would not fit into an index that is kept. */
const MAX_SPANS = 1_000_000;
/** Files that have chunks in common are read once each: so often their chunks, at most, and this much besides. */
const MAX_SHARED = 4;
const SHARED_BYTES = 1024 ** 3;

/** A layer as its image names it and its bytes are. */
export interface NydusLayer {
  readonly layer: Digest;
  readonly diffId: Digest;
  readonly sizeBytes: number;
}

/** Chunks that lie in a row in a data blob and in the files. */
interface Row {
  readonly blob: RafsBlob;
  readonly chunks: RafsChunk[];
  readonly offset: number;
  length: number;
  sha256?: Buffer;
}

/** The index of a data blob: an empty tree; what it holds is shown by the layer with the bootstrap. */
export function blobIndex({ layer, sizeBytes }: Omit<NydusLayer, 'diffId'>): MadeIndex {
  const facts = { layer, diffId: layer, compression: 'chunks' as const };
  const bytes = writeIndex({
    ...facts,
    ...{ compressedBytes: sizeBytes, uncompressedBytes: 0, entries: [], spans: [] },
    nydus: { kind: 'nydus-blob', sources: [] },
  });
  return { ...facts, bytes };
}

/**
 * Makes the index of the layer with an image's bootstrap: the image's tree, and its content as spans of the data blobs. The
 * content of files lies one behind the other, in the order of the blobs; what files have in common is there for each.
 * Usage: {@link read} once for each blob, in any order, then {@link end}.
 */
export class NydusIndexer {
  readonly #bootstrap: ReadBootstrap;
  readonly #entries: readonly LayerEntry[];
  readonly #rows: readonly Row[];
  readonly #contentBytes: number;

  /** @throws {CodedError} `LAYER_NOT_LAZY` with the reason */
  constructor(bootstrap: ReadBootstrap) {
    this.#bootstrap = bootstrap;
    const { places, rows, contentBytes } = layContent(bootstrap);
    this.#entries = entriesOf(bootstrap.root, places);
    this.#rows = rows;
    this.#contentBytes = contentBytes;
  }

  /**
   * Reads what of a blob is in files, each chunk checked against its digest.
   * @throws {CodedError} `LAYER_INVALID`, what `read` throws
   */
  async read(blob: RafsBlob, read: ReadAt): Promise<void> {
    for (const row of this.#rows) {
      if (row.blob !== blob) continue;
      const start = row.chunks[0]!.packedOffset;
      const packed = await read(start, packedBytesOf(row));
      const hash = createHash('sha256');
      for (const { packedOffset, packedBytes, sizeBytes, digest, ...chunk } of row.chunks) {
        const bytes = packed.subarray(packedOffset - start, packedOffset - start + packedBytes);
        const how = isPlainChunk({ packedBytes, sizeBytes }) ? 'none' : blob.compressor;
        const raw = unpack(bytes, how, sizeBytes, `chunk ${chunk.index} of ${blob.id}`);
        if (createHash('sha256').update(raw).digest('hex') !== digest)
          throw invalid(`chunk ${chunk.index} of ${blob.id} does not match its digest`);
        hash.update(raw);
      }
      row.sha256 = hash.digest();
    }
  }

  /** @param sizes lengths of the blobs by their ids */
  end({ layer, diffId, sizeBytes }: NydusLayer, sizes: ReadonlyMap<string, number>): MadeIndex {
    const { blobs } = this.#bootstrap;
    const sources = blobs.map((blob) => ({
      digest: `sha256:${blob.id}` as Digest,
      sizeBytes: sizes.get(blob.id)!,
      compressor: blob.compressor,
    }));
    const spans = this.#rows.map((row): SpanToWrite => {
      if (row.sha256 === undefined) throw new Error(`the blob ${row.blob.id} was not read`);
      return {
        ...{ compressedBit: row.chunks[0]!.packedOffset * 8, offset: row.offset, length: row.length },
        ...{ sha256: row.sha256, window: storeWindow(encodeCuts(row.chunks)) },
        packed: { source: blobs.indexOf(row.blob), bytes: packedBytesOf(row) },
      };
    });
    const facts = { layer, diffId, compression: 'chunks' as const };
    const bytes = writeIndex({
      ...{ ...facts, compressedBytes: sizeBytes, uncompressedBytes: this.#contentBytes },
      ...{ entries: this.#entries, spans, nydus: { kind: 'nydus-bootstrap', sources } },
    });
    return { ...facts, bytes };
  }
}

function packedBytesOf({ chunks }: Row): number {
  const last = chunks.at(-1)!;
  return last.packedOffset + last.packedBytes - chunks[0]!.packedOffset;
}

/** Gives each file its place in the content, in the order of the blobs; files whose beginning another has come last. */
function layContent({ chunks, blobs, table }: ReadBootstrap): {
  places: ReadonlyMap<TreeNode, number>;
  rows: readonly Row[];
  contentBytes: number;
} {
  const files = [...chunks].filter(([, own]) => own.length > 0);
  const numbers = new Map(blobs.map((blob, index) => [blob, index]));
  files.sort(
    ([, [one]], [, [other]]) =>
      numbers.get(one!.blob)! - numbers.get(other!.blob)! || one!.packedOffset - other!.packedOffset,
  );
  const seen = new Set<RafsChunk>();
  const [first, again] = [[], []] as [typeof files, typeof files];
  for (const file of files) {
    const start = file[1][0]!;
    (seen.has(start) ? again : first).push(file);
    seen.add(start);
  }
  const most = MAX_SHARED * table.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) + SHARED_BYTES;
  const places = new Map<TreeNode, number>();
  const rows: Row[] = [];
  let offset = 0;
  for (const [node, own] of [...first, ...again]) {
    places.set(node, offset);
    for (const chunk of own) {
      addTo(rows, chunk, offset);
      offset += chunk.sizeBytes;
    }
    if (offset > most) notLazy('content-shared-too-often', '' as ByteString);
    if (rows.length > MAX_SPANS) notLazy('too-many-spans', '' as ByteString);
  }
  return { places, rows, contentBytes: offset };
}

function addTo(rows: Row[], chunk: RafsChunk, offset: number): void {
  const row = rows.at(-1);
  const before = row?.chunks.at(-1);
  const isNext =
    row !== undefined &&
    before?.blob === chunk.blob &&
    before.packedOffset + before.packedBytes === chunk.packedOffset &&
    row.length + chunk.sizeBytes <= SPAN_BYTES &&
    packedBytesOf(row) + chunk.packedBytes <= PACKED_BYTES &&
    row.chunks.length < MAX_SPAN_CHUNKS;
  if (!isNext) {
    rows.push({ blob: chunk.blob, chunks: [chunk], offset, length: chunk.sizeBytes });
    return;
  }
  row.chunks.push(chunk);
  row.length += chunk.sizeBytes;
}

/** The tree as entries, directories before what they hold; further names of a file are hard links. */
function entriesOf(root: TreeNode, places: ReadonlyMap<TreeNode, number>): LayerEntry[] {
  const entries: LayerEntry[] = [];
  const names = new Map<TreeNode, ByteString>();
  const open = [{ path: '' as ByteString, node: root }];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { path, node } = next;
    if (entries.length >= MAX_ENTRIES) notLazy('too-many-entries', path);
    const known = names.get(node);
    entries.push(entryOf(path, node, known, places.get(node) ?? 0));
    names.set(node, known ?? path);
    for (const name of [...(node.children?.keys() ?? [])].sort().toReversed()) {
      const child = node.children!.get(name)!;
      const below = (path === '' ? name : `${path}/${name}`) as ByteString;
      // What hides files of lower layers has no meaning where there are none.
      if (name.startsWith(WHITEOUT) || isWhiteout(child)) notLazy('whiteout-in-the-tree', below);
      open.push({ path: below, node: child });
    }
  }
  return entries;
}

function entryOf(
  path: ByteString,
  node: TreeNode,
  first: ByteString | undefined,
  offset: number,
): LayerEntry {
  const { mode, uid, gid, mtimeSec, mtimeNsec, devMajor, devMinor, xattrs, link, size } = node;
  const facts = { path, mode, uid, gid, mtimeSec, mtimeNsec, devMajor, devMinor, xattrs };
  if (first !== undefined) return { ...facts, type: 'hardlink', link: first, offset: 0, size: 0 };
  return { ...facts, type: node.type, link, offset, size };
}

function notLazy(reason: string, path: ByteString): never {
  throw new CodedError('LAYER_NOT_LAZY', { detail: { reason, path: textOf(path) } });
}
