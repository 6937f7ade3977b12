import { EROFS_BLOCK, EROFS_MAGIC, layInodes, writeU64 } from '../erofs/inodes.ts';
import type { TreeNode } from '../erofs/layer-tree.ts';
import {
  BLOB_BYTES,
  BLOCK_BITS,
  type Bootstrap,
  CHUNK_INDEX_BYTES,
  CHUNK_INDEXES,
  CHUNK_RECORD_BYTES,
  COMPAT_RAFS,
  COMPRESSED_CHUNK,
  COMPRESSOR_NUMBERS,
  DEVICE_ALIGN,
  DEVICE_BYTES,
  DEVICES_AT,
  DIGESTERS,
  EXTENDED_AT,
  FEATURES,
  FLAGS,
  INCOMPAT,
  isPlainChunk,
  type RafsBlob,
  type RafsChunk,
  roundUp,
  SUPERBLOCK_AT,
} from './format.ts';

/** Where the parts of a bootstrap lie. */
interface Places {
  readonly blobTable: number;
  readonly prefetchTable: number;
  /** The metadata area; its first block stays empty, for glibc hides an inode 0. */
  readonly meta: number;
  readonly chunkTable: number;
  readonly end: number;
}

/**
 * Encodes a RAFS v6 bootstrap: an EROFS image of inodes and directories whose files lie in chunks on other devices, the
 * data blobs (dragonflyoss/nydus, `rafs/src/metadata/layout/v6.rs`). The same tree gives the same bytes.
 *
 * ```
 * 0      1024  zeros
 * 1024    128  EROFS superblock
 * 1152    256  extended superblock: where the tables are
 * 1408         device slots, 128 per blob
 * ↑4096        blob table, 256 per blob; behind it the prefetch table (u32 inode numbers)
 * ↑4096        an empty block, inodes, directories
 * ↑4096        chunk table, 80 per chunk
 * ```
 */
export function encodeBootstrap(bootstrap: Bootstrap): Buffer {
  const { blobs, prefetch } = bootstrap;
  const blobIndex = new Map(blobs.map((blob, index) => [blob, index]));
  const chunksOf = (file: TreeNode): { indexes: Uint8Array; format: number } =>
    chunkIndexes(bootstrap, file, blobIndex);
  const blobTable = roundUp(DEVICES_AT + blobs.length * DEVICE_BYTES, EROFS_BLOCK);
  const prefetchTable = blobTable + blobs.length * BLOB_BYTES;
  const meta = roundUp(prefetchTable + prefetch.length * 4, EROFS_BLOCK);
  const laid = layInodes(bootstrap.root, { base: meta, from: meta + EROFS_BLOCK, chunksOf });
  const records = chunkRecords(bootstrap, blobIndex);
  const chunkTable = laid.endBlock * EROFS_BLOCK;
  const end = roundUp(chunkTable + records.length * CHUNK_RECORD_BYTES, EROFS_BLOCK);
  const places = { blobTable, prefetchTable, meta, chunkTable, end };
  const image = Buffer.alloc(end);
  writeSuperblock(image, { places, blobs, inodes: laid.inodes.length, root: laid.nidOf(bootstrap.root) });
  const hasXattrs = laid.inodes.some(({ xattrBytes }) => xattrBytes > 0);
  writeExtended(image, bootstrap, { places, chunks: records.length, hasXattrs });
  writeDevices(image, blobs, end);
  for (const [index, blob] of blobs.entries()) writeBlob(image, blobTable + index * BLOB_BYTES, blob, index);
  for (const [index, node] of prefetch.entries())
    image.writeUInt32LE(laid.nidOf(node), prefetchTable + index * 4);
  laid.write(image);
  for (const [index, record] of records.entries())
    writeChunk(image, chunkTable + index * CHUNK_RECORD_BYTES, record);
  return image;
}

/** The 8-byte indexes of a file: chunk number low, device and chunk number high, first block on the device. */
function chunkIndexes(
  { chunks, chunkBytes }: Bootstrap,
  file: TreeNode,
  blobIndex: ReadonlyMap<RafsBlob, number>,
): { indexes: Uint8Array; format: number } {
  const own = chunks.get(file) ?? [];
  // Out of the pool: most files have one index, and memory of its own would be ten times that.
  const indexes = Buffer.allocUnsafe(own.length * CHUNK_INDEX_BYTES);
  for (const [slot, { index, blob, offset }] of own.entries()) {
    const at = slot * CHUNK_INDEX_BYTES;
    indexes.writeUInt16LE(index & 0xffff, at);
    indexes.writeUInt16LE(((index >> 16) << 8) | (blobIndex.get(blob)! + 1), at + 2);
    indexes.writeUInt32LE(offset / EROFS_BLOCK, at + 4);
  }
  // Chunks in a row are one extent to the kernel.
  const isRow = own.every(
    (chunk, slot) =>
      slot === 0 ||
      (chunk.blob === own[slot - 1]!.blob && chunk.offset === own[slot - 1]!.offset + chunkBytes),
  );
  let bits = BLOCK_BITS;
  while (2 ** bits < (isRow ? Math.max(file.size, chunkBytes) : chunkBytes)) bits += 1;
  return { indexes, format: CHUNK_INDEXES | (bits - BLOCK_BITS) };
}

interface ChunkRecord {
  readonly chunk: RafsChunk;
  readonly blob: number;
  readonly fileOffset: number;
}

/** Each chunk once, by blob and number, with its place in the first file that has it. */
function chunkRecords(
  { chunks, chunkBytes }: Bootstrap,
  blobIndex: ReadonlyMap<RafsBlob, number>,
): readonly ChunkRecord[] {
  const known = new Set<RafsChunk>();
  const records: ChunkRecord[] = [];
  for (const own of chunks.values())
    for (const [slot, chunk] of own.entries()) {
      if (known.has(chunk)) continue;
      known.add(chunk);
      records.push({ chunk, blob: blobIndex.get(chunk.blob)!, fileOffset: slot * chunkBytes });
    }
  return records.sort((one, other) => one.blob - other.blob || one.chunk.index - other.chunk.index);
}

function writeSuperblock(
  image: Buffer,
  facts: {
    readonly places: Places;
    readonly blobs: readonly RafsBlob[];
    readonly inodes: number;
    readonly root: number;
  },
): void {
  const at = SUPERBLOCK_AT;
  image.writeUInt32LE(EROFS_MAGIC, at);
  image.writeUInt32LE(COMPAT_RAFS, at + 8);
  image.writeUInt8(BLOCK_BITS, at + 12);
  image.writeUInt16LE(facts.root, at + 14);
  writeU64(image, at + 16, facts.inodes);
  image.writeUInt32LE(
    facts.blobs.reduce((sum, blob) => sum + blob.rawBytes / EROFS_BLOCK, 0),
    at + 36,
  );
  image.writeUInt32LE(facts.places.meta / EROFS_BLOCK, at + 40);
  image.writeUInt32LE(INCOMPAT, at + 80);
  image.writeUInt16LE(facts.blobs.length, at + 86);
  image.writeUInt16LE(DEVICES_AT / DEVICE_BYTES, at + 88);
}

function writeExtended(
  image: Buffer,
  { blobs, chunkBytes, compressor, prefetch }: Bootstrap,
  {
    places,
    chunks,
    hasXattrs,
  }: { readonly places: Places; readonly chunks: number; readonly hasXattrs: boolean },
): void {
  const areInlined = blobs.every((blob) => (blob.features & FEATURES.inlinedDigests) !== 0);
  const flags =
    COMPRESSOR_NUMBERS[compressor].flag |
    DIGESTERS.sha256.flag |
    FLAGS.explicitOwners |
    FLAGS.cipherNone |
    (hasXattrs ? FLAGS.hasXattrs : 0) |
    (areInlined ? FLAGS.inlinedDigests : 0);
  const at = EXTENDED_AT;
  writeU64(image, at, flags);
  writeU64(image, at + 8, places.blobTable);
  image.writeUInt32LE(blobs.length * BLOB_BYTES, at + 16);
  image.writeUInt32LE(chunkBytes, at + 20);
  writeU64(image, at + 24, places.chunkTable);
  writeU64(image, at + 32, chunks * CHUNK_RECORD_BYTES);
  if (prefetch.length === 0) return;
  writeU64(image, at + 40, places.prefetchTable);
  image.writeUInt32LE(prefetch.length * 4, at + 48);
}

/** Slots of the devices: ids, lengths, and where each lies behind the image for who mounts all as one flat device. */
function writeDevices(image: Buffer, blobs: readonly RafsBlob[], end: number): void {
  const offsets = flatOffsets(blobs, end);
  for (const [index, { id, rawBytes }] of blobs.entries()) {
    const at = DEVICES_AT + index * DEVICE_BYTES;
    image.write(id, at, 'latin1');
    image.writeUInt32LE(rawBytes / EROFS_BLOCK, at + 64);
    image.writeUInt32LE(offsets[index]! / EROFS_BLOCK, at + 68);
  }
}

/** Where each blob's device begins in the flat address space behind a bootstrap of `end` bytes. */
export function flatOffsets(blobs: readonly RafsBlob[], end: number): number[] {
  let position = end;
  return blobs.map(({ rawBytes }) => {
    const start = roundUp(position, DEVICE_ALIGN);
    position = start + rawBytes;
    return start;
  });
}

function writeBlob(image: Buffer, at: number, blob: RafsBlob, index: number): void {
  const { table } = blob;
  image.write(blob.id, at, 'latin1');
  image.writeUInt32LE(index, at + 64);
  image.writeUInt32LE(blob.chunkBytes, at + 68);
  image.writeUInt32LE(blob.chunkCount, at + 72);
  image.writeUInt32LE(COMPRESSOR_NUMBERS[blob.compressor].id, at + 76);
  image.writeUInt32LE(DIGESTERS.sha256.id, at + 80);
  image.writeUInt32LE(blob.features, at + 84);
  writeU64(image, at + 88, blob.packedBytes);
  writeU64(image, at + 96, blob.rawBytes);
  image.writeUInt32LE(COMPRESSOR_NUMBERS[table.compressor].id, at + 108);
  writeU64(image, at + 112, table.offset);
  writeU64(image, at + 120, table.packedBytes);
  writeU64(image, at + 128, table.rawBytes);
}

function writeChunk(image: Buffer, at: number, { chunk, blob, fileOffset }: ChunkRecord): void {
  image.write(chunk.digest, at, 'hex');
  image.writeUInt32LE(blob, at + 32);
  image.writeUInt32LE(isPlainChunk(chunk) ? 0 : COMPRESSED_CHUNK, at + 36);
  image.writeUInt32LE(chunk.packedBytes, at + 40);
  image.writeUInt32LE(chunk.sizeBytes, at + 44);
  writeU64(image, at + 48, chunk.packedOffset);
  writeU64(image, at + 56, chunk.offset);
  writeU64(image, at + 64, fileOffset);
  image.writeUInt32LE(chunk.index, at + 72);
}
