import { createHash } from 'node:crypto';
import { constants, zstdCompressSync } from 'node:zlib';
import { giveBack } from '@sepia/base/chunk';
import { isCoded } from '@sepia/base/errors';
import { EROFS_BLOCK } from '../erofs/inodes.ts';
import { layerTree, type TreeNode } from '../erofs/layer-tree.ts';
import { checkLinkHeaders } from '../erofs/link-headers.ts';
import type { SparseFile, Unfit } from '../estargz/arrange.ts';
import { type BuildOptions, sparseFiles } from '../estargz/build.ts';
import { wholeFile } from '../estargz/part.ts';
import { packBatches, type TakeBytes, type WriteDeps } from '../estargz/write.ts';
import { type LayerEntry, layerEntry } from '../index/layer-entry.ts';
import type { Compressor } from '../pack/unpack.ts';
import { type ByteString, byteStringOf } from '../tar/byte-string.ts';
import { cleanPath, type TarEntry } from '../tar/tar-entry.ts';
import { encodeChunkHeader, encodeChunkInfos, HEADER_BYTES, packChunkInfos } from './chunk-info.ts';
import { cutChunks, type LayerFile } from './cut-chunks.ts';
import { encodeBootstrap } from './encode-bootstrap.ts';
import {
  BLOB_FEATURES,
  FEATURES,
  ID_INSIDE,
  MAX_CHUNKS,
  type RafsBlob,
  type RafsChunk,
  roundUp,
} from './format.ts';
import { withOciMarks } from './layer-marks.ts';
import { filesOf, nodeAt } from './merge.ts';
import { encodeToc, SECTIONS, sectionHeader, TABLE_HEADER, TAR_BLOCK, type TocEntry } from './sections.ts';

/** Everything that decides the bytes of a data blob, beside the layer; `level` is that of `compressor`. */
export type RafsOptions = Pick<BuildOptions, 'level' | 'chunkBytes' | 'prioritized' | 'maxBytes'> & {
  readonly compressor: Compressor;
};

/** A data blob that was written. */
export interface BuiltRafs {
  /** `sha256:…` of the blob, which is its DiffID, too. */
  readonly digest: string;
  readonly sizeBytes: number;
  /** Bytes of chunks, uncompressed; each once. */
  readonly uncompressedBytes: number;
  /** Prioritized files that the layer does not have. */
  readonly missing: readonly string[];
  /** The layer's bootstrap, a zstd frame. */
  readonly bootstrap: Uint8Array;
  /** As in `LayerPart`. */
  readonly implied: readonly string[];
  readonly outside: readonly (readonly [path: string, target: string])[];
}

const BOOTSTRAP_LEVEL = 9;

/**
 * Writes the data blob of a layer whose tar was read: chunks, their table and digests, the layer's own bootstrap, a table of
 * contents (see ADR 66). Prioritized files come first; chunks with the same content are there once. The bytes depend on
 * entries, content and options only. Memory: the tree, and a few batches per thread; entries are taken out of their list once
 * the tree is made, for there may be millions.
 * @returns why it cannot be one, where RAFS cannot say what the tar says
 * @throws {CodedError} `LAYER_INVALID`
 */
export async function buildRafs(
  deps: WriteDeps,
  entries: TarEntry[],
  options: RafsOptions,
): Promise<BuiltRafs | Unfit> {
  const sparse = await sparseFiles(deps, entries, options.maxBytes);
  if ('unfit' in sparse) return sparse;
  const outside = new Map<ByteString, ByteString>();
  let tree: TreeNode;
  let root: TreeNode;
  try {
    checkLinkHeaders({ [Symbol.iterator]: () => layerEntries(entries, sparse) });
    tree = layerTree(layerEntries(entries, sparse), outside);
    root = withOciMarks(tree);
  } catch (error) {
    if (!isCoded(error, 'LAYER_NOT_LAZY')) throw error;
    const { reason, path } = error.detail as { reason: string; path: string };
    return { unfit: `${reason}: ${path}` };
  }
  entries.length = 0;
  const { nodes, missing } = inOrder(root, options.prioritized);
  if (nodes.reduce((sum, node) => sum + Math.ceil(node.size / options.chunkBytes), 0) >= MAX_CHUNKS)
    return { unfit: `it has more than ${MAX_CHUNKS} chunks` };
  const files = layerFiles(nodes, sparse);
  const out = new BlobOutput(deps.take);
  // Chunks name their blob, of which the rest is known once they are written: nothing is made twice, there may be a million.
  const blob = { id: ID_INSIDE } as RafsBlob;
  const { chunks, table, rawBytes } = await writeChunks(deps, files, options, out, blob);
  Object.assign(blob, await writeTables(out, table, rawBytes, options));
  const bytes = encodeBootstrap({
    ...{ root, chunkBytes: options.chunkBytes, compressor: options.compressor, prefetch: [] },
    chunks,
    blobs: table.length === 0 ? [] : [blob],
  });
  const bootstrap = await out.endWith(bytes);
  giveBack(bytes);
  return {
    ...out.finish(),
    uncompressedBytes: table.reduce((sum, one) => sum + one.sizeBytes, 0),
    ...{ missing, bootstrap, implied: impliedPaths(tree), outside: [...outside] },
  };
}

/** Entries as they count for the tree. */
function* layerEntries(
  entries: readonly TarEntry[],
  sparse: ReadonlyMap<TarEntry, SparseFile>,
): Generator<LayerEntry> {
  for (const entry of entries) {
    const filled = sparse.get(entry);
    yield layerEntry(
      filled === undefined
        ? entry
        : { ...entry, sparse: false, type: 'file', name: filled.name, size: filled.sizeBytes },
    );
  }
}

/** Files with content in the order in which they are stored: prioritized ones, then as in the layer. */
function inOrder(
  root: TreeNode,
  prioritized: readonly string[],
): { nodes: readonly TreeNode[]; missing: readonly string[] } {
  const missing: string[] = [];
  const front = new Set<TreeNode>();
  for (const name of prioritized) {
    const node = nodeAt(root, cleanPath(byteStringOf(name)));
    if (node === undefined) missing.push(name);
    else if (node.type === 'file') front.add(node);
  }
  const rest = [...filesOf(root)].sort((one, other) => one.offset - other.offset);
  return { nodes: [...new Set([...front, ...rest])].filter((node) => node.size > 0), missing };
}

/** Where the content of files lies; made one by one, for there may be a million. */
function* layerFiles(
  nodes: readonly TreeNode[],
  sparse: ReadonlyMap<TarEntry, SparseFile>,
): Generator<LayerFile> {
  const filled = new Map([...sparse].map(([entry, { parts }]) => [entry.payloadOffset, parts]));
  for (const node of nodes) {
    const { offset, size } = node;
    yield { node, parts: filled.get(offset) ?? wholeFile({ payloadOffset: offset, size }) };
  }
}

/** Writes each chunk that was not there before. */
async function writeChunks(
  deps: WriteDeps,
  files: Iterable<LayerFile>,
  { chunkBytes, compressor, level }: RafsOptions,
  out: BlobOutput,
  blob: RafsBlob,
): Promise<{
  chunks: ReadonlyMap<TreeNode, RafsChunk[]>;
  table: readonly RafsChunk[];
  rawBytes: number;
}> {
  const chunks = new Map<TreeNode, RafsChunk[]>();
  const byDigest = new Map<string, RafsChunk>();
  let rawBytes = 0;
  let doneBytes = 0;
  for await (const { batch, packed } of packBatches(deps, cutChunks(files, chunkBytes), {
    format: compressor,
    level,
  })) {
    let rawAt = 0;
    let packedAt = 0;
    for (const [slot, node] of batch.files.entries()) {
      const { sizeBytes } = batch.members[slot]!;
      const raw = packed.raw.subarray(rawAt, rawAt + sizeBytes);
      const small = packed.packed.subarray(packedAt, packedAt + packed.lengths[slot]!);
      rawAt += sizeBytes;
      packedAt += small.length;
      const digest = packed.digests[slot]!;
      let chunk = byDigest.get(digest);
      if (chunk === undefined) {
        const stored = small.length < sizeBytes ? small : raw;
        const at = { packedOffset: out.sizeBytes, packedBytes: stored.length, offset: rawBytes, sizeBytes };
        chunk = { blob, index: byDigest.size, digest, ...at };
        byDigest.set(digest, chunk);
        rawBytes = roundUp(rawBytes + sizeBytes, EROFS_BLOCK);
        await out.put(stored);
      }
      const own = chunks.get(node) ?? [];
      chunks.set(node, own);
      own.push(chunk);
    }
    doneBytes += batch.sizeBytes;
    deps.progress?.(doneBytes);
  }
  return { chunks, table: [...byDigest.values()], rawBytes };
}

/** Writes what follows the chunks, if there are any: their table and their digests. */
async function writeTables(
  out: BlobOutput,
  chunks: readonly RafsChunk[],
  rawBytes: number,
  { chunkBytes, compressor }: RafsOptions,
): Promise<RafsBlob> {
  const packedBytes = out.sizeBytes;
  const table = encodeChunkInfos(chunks);
  const { packed, compressor: by } = packChunkInfos(table, compressor);
  const blob: RafsBlob = {
    id: ID_INSIDE,
    features: BLOB_FEATURES | FEATURES.inlinedBootstrap,
    ...{ compressor, chunkBytes, chunkCount: chunks.length, packedBytes, rawBytes },
    table: {
      offset: packedBytes + TAR_BLOCK,
      packedBytes: packed.length,
      rawBytes: table.length,
      compressor: by,
    },
  };
  if (chunks.length === 0) return blob;
  await out.endChunks(packedBytes, rawBytes);
  const header = encodeChunkHeader(blob);
  out.note({ name: SECTIONS.table, compressor: by, raw: table, packedBytes: packed.length });
  await out.put(packed);
  out.note({ name: TABLE_HEADER, compressor: 'none', raw: header, packedBytes: HEADER_BYTES });
  await out.put(header);
  await out.put(sectionHeader(SECTIONS.table, packed.length + HEADER_BYTES));
  const digests = Buffer.from(chunks.map((chunk) => chunk.digest).join(''), 'hex');
  out.note({ name: SECTIONS.digests, compressor: 'none', raw: digests, packedBytes: digests.length });
  await out.put(digests);
  await out.put(sectionHeader(SECTIONS.digests, digests.length));
  return blob;
}

/** Hands the bytes of a blob on, hashes them, and keeps its table of contents. */
class BlobOutput {
  readonly #take: TakeBytes;
  readonly #hash = createHash('sha256');
  readonly #toc: TocEntry[] = [];
  sizeBytes = 0;

  constructor(take: TakeBytes) {
    this.#take = take;
  }

  async put(bytes: Uint8Array): Promise<void> {
    this.#hash.update(bytes);
    this.sizeBytes += bytes.length;
    await this.#take(bytes);
  }

  /** Ends the section of chunks. As nydus-image has it, its digest in the table of contents is that with its header. */
  async endChunks(packedBytes: number, rawBytes: number): Promise<void> {
    await this.put(sectionHeader(SECTIONS.chunks, packedBytes));
    const digest = this.#hash.copy().digest('hex');
    this.#toc.push({ name: SECTIONS.chunks, compressor: 'none', digest, offset: 0, packedBytes, rawBytes });
  }

  /** Notes what is put next in the table of contents. */
  note({
    name,
    compressor,
    raw,
    packedBytes,
  }: Pick<TocEntry, 'name' | 'compressor' | 'packedBytes'> & { readonly raw: Uint8Array }): void {
    const digest = createHash('sha256').update(raw).digest('hex');
    this.#toc.push({ name, compressor, digest, offset: this.sizeBytes, packedBytes, rawBytes: raw.length });
  }

  /** Writes the bootstrap and the table of contents. @returns the bootstrap, compressed */
  async endWith(bootstrap: Uint8Array): Promise<Uint8Array> {
    const packed = zstdCompressSync(bootstrap, {
      params: { [constants.ZSTD_c_compressionLevel]: BOOTSTRAP_LEVEL },
    });
    this.note({ name: SECTIONS.bootstrap, compressor: 'zstd', raw: bootstrap, packedBytes: packed.length });
    await this.put(packed);
    await this.put(sectionHeader(SECTIONS.bootstrap, packed.length));
    const toc = encodeToc(this.#toc);
    await this.put(toc);
    await this.put(sectionHeader(SECTIONS.toc, toc.length));
    return packed;
  }

  finish(): Pick<BuiltRafs, 'digest' | 'sizeBytes'> {
    return { digest: `sha256:${this.#hash.digest('hex')}`, sizeBytes: this.sizeBytes };
  }
}

/** Paths of directories that no entry describes; the root is empty. */
function impliedPaths(root: TreeNode): string[] {
  const paths: string[] = [];
  const open = [{ path: '', node: root }];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    if (next.node.isImplied) paths.push(next.path);
    for (const [name, node] of next.node.children!)
      if (node.type === 'directory')
        open.push({ path: next.path === '' ? name : `${next.path}/${name}`, node });
  }
  return paths.sort();
}
