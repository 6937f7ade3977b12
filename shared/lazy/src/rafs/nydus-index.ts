import { createHash, type Hash } from 'node:crypto';
import type { Digest } from '@sepia/base/digest';
import { isWhiteout, type TreeNode } from '../erofs/layer-tree.ts';
import type { LayerEntry } from '../index/layer-entry.ts';
import { type SpanToWrite, storeWindow, writeIndex } from '../index/layer-index.ts';
import type { MadeIndex } from '../index/layer-indexer.ts';
import { encodeCuts, MAX_SPAN_CHUNKS } from '../index/span-chunks.ts';
import { notLazy } from '../not-lazy.ts';
import type { ByteString } from '../tar/byte-string.ts';
import type { ChunkInfo } from './chunk-info.ts';
import { type ChunkAddress, type RafsBlob, WHITEOUT } from './format.ts';
import type { ReadBootstrap } from './read-bootstrap.ts';
import type { TakeChunk } from './verify.ts';

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

/** Parts of files, one behind the other in the content, that lie in the same data blob. */
interface Run {
  readonly offset: number;
  readonly parts: ChunkAddress[];
}

/** A chunk and where it lies in its blob. */
type PlacedChunk = ChunkAddress & Pick<ChunkInfo, 'packedOffset' | 'packedBytes'>;

/** Chunks that lie in a row in a data blob and in the files. */
interface Row {
  readonly blob: RafsBlob;
  readonly chunks: PlacedChunk[];
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
 * Usage: {@link content} once for each blob, in any order, while the blob is verified; then {@link end}.
 */
export class NydusIndexer {
  readonly #bootstrap: ReadBootstrap<ChunkAddress>;
  readonly #entries: readonly LayerEntry[];
  readonly #runs: ReadonlyMap<RafsBlob, readonly Run[]>;
  readonly #contentBytes: number;
  readonly #rows = new Map<RafsBlob, readonly Row[]>();

  /** @throws {CodedError} `LAYER_NOT_LAZY` with the reason */
  constructor(bootstrap: ReadBootstrap<ChunkAddress>) {
    this.#bootstrap = bootstrap;
    const { places, runs, contentBytes } = layContent(bootstrap);
    this.#entries = entriesOf(bootstrap.root, places);
    this.#runs = runs;
    this.#contentBytes = contentBytes;
  }

  /**
   * Cuts what files have of a blob into spans, by the table of a blob that fits the bootstrap.
   * @returns takes every chunk of the blob, in order, once it matched its digest
   */
  content(blob: RafsBlob, infos: readonly ChunkInfo[]): TakeChunk {
    const rows: Row[] = [];
    for (const { parts, offset } of this.#runs.get(blob) ?? []) cutRun(rows, parts, infos, offset);
    this.#rows.set(blob, rows);
    const starting = Map.groupBy(rows, ({ chunks }) => chunks[0]!.index);
    const open = new Map<Row, Hash>();
    return (index, raw) => {
      for (const row of starting.get(index) ?? []) open.set(row, createHash('sha256'));
      for (const [row, hash] of open) {
        hash.update(raw);
        if (row.chunks.at(-1)!.index !== index) continue;
        row.sha256 = hash.digest();
        open.delete(row);
      }
    };
  }

  /** @param sizes lengths of the blobs by their ids. @throws {CodedError} `LAYER_NOT_LAZY` with the reason */
  end({ layer, diffId, sizeBytes }: NydusLayer, sizes: ReadonlyMap<string, number>): MadeIndex {
    const { blobs } = this.#bootstrap;
    const sources = blobs.map((blob) => ({
      digest: `sha256:${blob.id}` as Digest,
      sizeBytes: sizes.get(blob.id)!,
      compressor: blob.compressor,
    }));
    const rows = [...this.#runs.keys()].flatMap((blob) => {
      const own = this.#rows.get(blob);
      if (own === undefined) throw new Error(`the blob ${blob.id} was not read`);
      return own;
    });
    if (rows.length > MAX_SPANS) notLazy('too-many-spans', '' as ByteString);
    rows.sort((one, other) => one.offset - other.offset);
    const spans = rows.map((row): SpanToWrite => {
      if (row.sha256 === undefined) throw new Error(`the blob ${row.blob.id} was not read to its end`);
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
function layContent({ chunks, blobs }: ReadBootstrap<ChunkAddress>): {
  places: ReadonlyMap<TreeNode, number>;
  runs: ReadonlyMap<RafsBlob, readonly Run[]>;
  contentBytes: number;
} {
  const files = [...chunks].filter(([, own]) => own.length > 0);
  const numbers = new Map(blobs.map((blob, index) => [blob, index]));
  files.sort(
    ([, [one]], [, [other]]) =>
      numbers.get(one!.blob)! - numbers.get(other!.blob)! || one!.index - other!.index,
  );
  const seen = new Set<ChunkAddress>();
  const [first, again] = [[], []] as [typeof files, typeof files];
  for (const file of files) {
    const start = file[1][0]!;
    (seen.has(start) ? again : first).push(file);
    seen.add(start);
  }
  const all = new Set(files.flatMap(([, own]) => own));
  const most = MAX_SHARED * [...all].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) + SHARED_BYTES;
  const places = new Map<TreeNode, number>();
  const runs = new Map<RafsBlob, Run[]>();
  let run: Run | undefined;
  let blob: RafsBlob | undefined;
  let offset = 0;
  for (const [node, own] of [...first, ...again]) {
    places.set(node, offset);
    for (const part of own) {
      if (run === undefined || blob !== part.blob) {
        run = { offset, parts: [] };
        blob = part.blob;
        const ofBlob = runs.get(blob) ?? [];
        ofBlob.push(run);
        runs.set(blob, ofBlob);
      }
      run.parts.push(part);
      offset += part.sizeBytes;
    }
    if (offset > most) notLazy('content-shared-too-often', '' as ByteString);
  }
  return { places, runs, contentBytes: offset };
}

/** Cuts a run into rows. */
function cutRun(
  rows: Row[],
  parts: readonly ChunkAddress[],
  infos: readonly ChunkInfo[],
  start: number,
): void {
  let row: Row | undefined;
  let offset = start;
  for (const part of parts) {
    const { packedOffset, packedBytes } = infos[part.index]!;
    const chunk = { ...part, packedOffset, packedBytes };
    const isNext =
      row !== undefined &&
      row.chunks.at(-1)!.index + 1 === part.index &&
      row.length + part.sizeBytes <= SPAN_BYTES &&
      packedBytesOf(row) + packedBytes <= PACKED_BYTES &&
      row.chunks.length < MAX_SPAN_CHUNKS;
    if (isNext) {
      row!.chunks.push(chunk);
      row!.length += part.sizeBytes;
    } else {
      row = { blob: part.blob, chunks: [chunk], offset, length: part.sizeBytes };
      rows.push(row);
    }
    offset += part.sizeBytes;
  }
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
