import { EROFS_BLOCK, EROFS_MAGIC } from '../erofs/inodes.ts';
import type { TreeNode } from '../erofs/layer-tree.ts';
import { READ_COMPRESSORS, type ReadCompressor } from '../pack/unpack.ts';
import { chunksOfInodes, chunksOfTable, type FindChunk } from './chunk-finders.ts';
import {
  BLOB_BYTES,
  BLOCK_BITS,
  type Bootstrap,
  CHUNK_RECORD_BYTES,
  type ChunkAddress,
  COMPAT_RAFS,
  COMPRESSED_CHUNK,
  COMPRESSOR_NUMBERS,
  DEVICE_BYTES,
  DEVICES_AT,
  DIGESTERS,
  type Digester,
  EXTENDED_AT,
  FEATURES,
  FLAGS,
  FOREIGN_FEATURES,
  ID_INSIDE,
  INCOMPAT,
  invalid,
  isPlainChunk,
  LEAST_CHUNK_BYTES,
  MAX_BLOBS,
  MAX_CHUNKS,
  MOST_CHUNK_BYTES,
  type RafsBlob,
  type RafsChunk,
  SUPERBLOCK_AT,
} from './format.ts';
import { ImageBytes } from './image-bytes.ts';
import { readTree } from './read-tree.ts';

/** What is known of a bootstrap from elsewhere. */
interface Known {
  /** Id of the blob that the bootstrap lies in, which cannot name itself. */
  readonly insideOf?: string;
  /** Inodes that are taken; left out: {@link MAX_INODES}. */
  readonly maxInodes?: number;
}

/** Each is held in memory: as many as the entries of the largest layer that is converted, and some for what they lie in. */
const MAX_INODES = 2_500_000;

/** A bootstrap that was read. `C`: what it says of the chunks of its files. */
export interface ReadBootstrap<C extends ChunkAddress = RafsChunk> extends Omit<Bootstrap, 'chunks'> {
  readonly chunks: ReadonlyMap<TreeNode, readonly C[]>;
  readonly digester: Digester;
  /** All chunks that its table has. */
  readonly table: readonly RafsChunk[];
  readonly inodes: number;
}

/** Longest bootstrap that is taken: about five million files. */
export const MAX_BOOTSTRAP_BYTES = 1024 ** 3;
/** What may be any number of times its packed length: as much as half a million files take. */
const SMALL_BYTES = 64 * 1024 ** 2;
/** Longer ones may be so many times their packed length: real ones are 2 to 20 times, made of zeros 1,000 times and more. */
const MOST_RATIO = 200;
const BYTES_OF_1_TIB = 1024 ** 4;

/** How long a bootstrap of this packed length may be, with the tables beside it: a small blob is no large one in memory. */
export function mostBootstrapBytes(packedBytes: number): number {
  return Math.min(MAX_BOOTSTRAP_BYTES, Math.max(SMALL_BYTES, packedBytes * MOST_RATIO));
}

/**
 * Reads a RAFS v6 bootstrap whole, as `encodeBootstrap` writes it and nydus-image in each blob, and checks all that nydusd
 * and the kernel rely on. Memory is bounded by its length, whatever it says.
 * @throws {CodedError} `LAYER_INVALID` with what is wrong and where; also for what is not known here
 */
export function readBootstrap(bytes: Buffer, known: Known = {}): ReadBootstrap {
  return read(bytes, known, chunksOfTable);
}

/**
 * Reads the bootstrap of an image. Where chunks lie in their blobs, the blobs' own tables say: `nydus-image merge` leaves
 * records of chunks out, as nydusd does not read them.
 * @throws {CodedError} as {@link readBootstrap}
 */
export function readImageBootstrap(bytes: Buffer): ReadBootstrap<ChunkAddress> {
  return read(bytes, {}, chunksOfInodes);
}

function read<C extends ChunkAddress>(
  bytes: Buffer,
  known: Known,
  finder: (table: readonly RafsChunk[]) => FindChunk<C>,
): ReadBootstrap<C> {
  if (bytes.length < 2 * EROFS_BLOCK || bytes.length % EROFS_BLOCK !== 0)
    throw invalid(`a bootstrap of ${bytes.length} bytes is not whole blocks`);
  if (bytes.length > MAX_BOOTSTRAP_BYTES) throw invalid('the bootstrap is longer than 1 GiB');
  const image = new ImageBytes(bytes);
  const { meta, root, devices, inodes } = readSuperblock(image);
  const { chunkBytes, compressor, digester, chunkTable, blobTable, prefetchTable } = readExtended(
    image,
    devices,
  );
  const blobs: RafsBlob[] = [];
  for (let index = 0; index < devices; index++)
    blobs.push(readBlob(image, blobTable, index, { chunkBytes, digester }, known));
  for (const [index, blob] of blobs.entries()) checkDevice(image, index, blob, known);
  const table = readChunkTable(image, chunkTable, blobs, chunkBytes);
  const tree = readTree(image, {
    ...{ meta, root, chunkAt: finder(table), blobs, chunkBytes },
    maxInodes: known.maxInodes ?? MAX_INODES,
  });
  const prefetch = prefetchTable.map((nid) => {
    const node = tree.byNid.get(nid);
    if (node === undefined) throw invalid(`its prefetch table names ${nid}, which is no inode of the tree`);
    return node;
  });
  if (tree.byNid.size > inodes)
    throw invalid(
      `its superblock names ${inodes} inodes, the tree has ${tree.byNid.size}`,
      SUPERBLOCK_AT + 16,
    );
  const { root: rootNode, chunks } = tree;
  return {
    ...{ root: rootNode, chunks, blobs, chunkBytes, compressor, digester, prefetch, table },
    inodes: tree.byNid.size,
  };
}

function readSuperblock(image: ImageBytes): { meta: number; root: number; devices: number; inodes: number } {
  const at = SUPERBLOCK_AT;
  const must = (isRight: boolean, what: string, offset: number): void => {
    if (!isRight) throw invalid(what, at + offset);
  };
  must(image.isZero(0, SUPERBLOCK_AT), 'the first 1024 bytes are not zero', -SUPERBLOCK_AT);
  must(image.u32(at) === EROFS_MAGIC, 'the superblock has no EROFS magic', 0);
  must(image.u32(at + 4) === 0, 'the superblock has a checksum; RAFS has none', 4);
  must((image.u32(at + 8) & COMPAT_RAFS) !== 0, 'the superblock does not say RAFS v6', 8);
  must(image.u8(at + 12) === BLOCK_BITS, 'blocks are not of 4096 bytes', 12);
  must(image.u8(at + 13) === 0, 'the superblock has slots behind it', 13);
  must(image.u32(at + 44) === 0, 'it has shared xattrs', 44);
  must(image.u32(at + 80) === INCOMPAT, `unknown features ${image.u32(at + 80)}`, 80);
  must(image.u16(at + 84) === 0, 'the superblock names compression', 84);
  const devices = image.u16(at + 86);
  must(devices <= MAX_BLOBS, `${devices} blobs; ${MAX_BLOBS} at most`, 86);
  must(image.u16(at + 88) === DEVICES_AT / DEVICE_BYTES, 'device slots are not where RAFS has them', 88);
  must(image.isZero(at + 90, 38), 'reserved bytes of the superblock are set', 90);
  const meta = image.u32(at + 40) * EROFS_BLOCK;
  must(meta >= EROFS_BLOCK && meta < image.length, 'the metadata begins outside of the image', 40);
  const inodes = image.u64(at + 16);
  must(inodes > 0, 'it has no inodes', 16);
  const root = image.u16(at + 14);
  must(root > 0, 'the root is inode 0', 14);
  return { meta, root, devices, inodes };
}

interface Tables {
  readonly chunkBytes: number;
  readonly compressor: ReadCompressor;
  readonly digester: Digester;
  readonly blobTable: number;
  readonly chunkTable: { readonly offset: number; readonly count: number };
  readonly prefetchTable: readonly number[];
}

function readExtended(image: ImageBytes, devices: number): Tables {
  const at = EXTENDED_AT;
  const flags = image.u64(at);
  const compressor = compressorOf((one) => (flags & one.flag) !== 0, at);
  const digester = digesterOf(flags);
  if ((flags & (FLAGS.tarfs | FLAGS.cipherAes)) !== 0) throw invalid('it is a tarfs, or encrypted', at);
  const chunkBytes = image.u32(at + 20);
  if (
    chunkBytes < LEAST_CHUNK_BYTES ||
    chunkBytes > MOST_CHUNK_BYTES ||
    (chunkBytes & (chunkBytes - 1)) !== 0
  )
    throw invalid(`chunks of ${chunkBytes} bytes`, at + 20);
  const blobTable = image.u64(at + 8);
  if (image.u32(at + 16) !== devices * BLOB_BYTES)
    throw invalid('its blob table has another length', at + 16);
  if (blobTable % EROFS_BLOCK !== 0 || blobTable < DEVICES_AT + devices * DEVICE_BYTES)
    throw invalid('its blob table lies over other tables', at + 8);
  image.slice(blobTable, devices * BLOB_BYTES);
  const offset = image.u64(at + 24);
  const tableBytes = image.u64(at + 32);
  if (tableBytes % CHUNK_RECORD_BYTES !== 0 || (tableBytes > 0 && offset % EROFS_BLOCK !== 0))
    throw invalid('its chunk table is not whole records', at + 24);
  image.slice(offset, tableBytes);
  if (tableBytes > MAX_CHUNKS * CHUNK_RECORD_BYTES)
    throw invalid(`its chunk table has more than ${MAX_CHUNKS} records`, at + 32);
  const prefetchAt = image.u64(at + 40);
  const prefetchBytes = prefetchAt === 0 ? 0 : image.u32(at + 48);
  if (prefetchBytes % 4 !== 0) throw invalid('its prefetch table is not whole entries', at + 48);
  image.slice(prefetchAt, prefetchBytes);
  const prefetchTable = Array.from({ length: prefetchBytes / 4 }, (_, index) =>
    image.u32(prefetchAt + index * 4),
  );
  return {
    ...{ chunkBytes, compressor, digester, blobTable, prefetchTable },
    chunkTable: { offset, count: tableBytes / CHUNK_RECORD_BYTES },
  };
}

function compressorOf(isOne: (numbers: { flag: number; id: number }) => boolean, at: number): ReadCompressor {
  const found = READ_COMPRESSORS.filter((name) => isOne(COMPRESSOR_NUMBERS[name]));
  if (found.length !== 1) throw invalid('its compression is not one of none, gzip, zstd and LZ4', at);
  return found[0]!;
}

function compressorBy(id: number, at: number): ReadCompressor {
  return compressorOf((one) => one.id === id, at);
}

function digesterOf(flags: number): Digester {
  const found = Object.entries(DIGESTERS).filter(([, { flag }]) => (flags & flag) !== 0);
  if (found.length !== 1) throw invalid('its digests are not one of SHA-256 and BLAKE3', EXTENDED_AT);
  return found[0]![0] as Digester;
}

function readBlob(
  image: ImageBytes,
  table: number,
  index: number,
  { chunkBytes, digester }: { readonly chunkBytes: number; readonly digester: Digester },
  { insideOf }: Known,
): RafsBlob {
  const at = table + index * BLOB_BYTES;
  const id = image.slice(at, 64).toString('latin1');
  const isInside = id === ID_INSIDE && insideOf !== undefined;
  if (!isInside && !/^[0-9a-f]{64}$/.test(id) && id !== ID_INSIDE)
    throw invalid(`blob ${index} has no SHA-256 as its id`, at);
  if (image.u32(at + 64) !== index) throw invalid(`blob ${index} has another number`, at + 64);
  if (image.u32(at + 68) !== chunkBytes) throw invalid(`blob ${index} has another chunk size`, at + 68);
  if (image.u32(at + 80) !== DIGESTERS[digester].id)
    throw invalid(`blob ${index} has other digests`, at + 80);
  const features = image.u32(at + 84);
  if ((features & FEATURES.aligned) === 0 || (features & FOREIGN_FEATURES) !== 0)
    throw invalid(`blob ${index} has features that are not read here: 0x${features.toString(16)}`, at + 84);
  const chunkCount = image.u32(at + 72);
  if (chunkCount > MAX_CHUNKS) throw invalid(`blob ${index} has more than ${MAX_CHUNKS} chunks`, at + 72);
  const rawBytes = image.u64(at + 96);
  const packedBytes = image.u64(at + 88);
  if (rawBytes > 16 * BYTES_OF_1_TIB || packedBytes > BYTES_OF_1_TIB)
    throw invalid(`blob ${index} is too long`, at + 88);
  const entryBytes = (features & FEATURES.chunkInfoV2) === 0 ? 16 : 24;
  if (image.u64(at + 128) !== chunkCount * entryBytes)
    throw invalid(`blob ${index} has a table of another number of chunks`, at + 128);
  return {
    id: isInside ? insideOf : id,
    compressor: compressorBy(image.u32(at + 76), at + 76),
    features: isInside ? features & ~FEATURES.inlinedBootstrap : features,
    ...{ chunkBytes, chunkCount, packedBytes, rawBytes },
    table: {
      offset: image.u64(at + 112),
      packedBytes: image.u64(at + 120),
      rawBytes: image.u64(at + 128),
      compressor: compressorBy(image.u32(at + 108), at + 108),
    },
  };
}

/** The slot that the kernel reads says of a blob what nydusd reads in its table. */
function checkDevice(image: ImageBytes, index: number, blob: RafsBlob, { insideOf }: Known): void {
  const at = DEVICES_AT + index * DEVICE_BYTES;
  const id = image.slice(at, 64).toString('latin1');
  if (id !== blob.id && !(id === ID_INSIDE && blob.id === insideOf))
    throw invalid(`the device slot of blob ${index} has another id`, at);
  if (image.u32(at + 64) !== Math.floor(blob.rawBytes / EROFS_BLOCK))
    throw invalid(`the device slot of blob ${index} has another length`, at + 64);
}

function readChunkTable(
  image: ImageBytes,
  { offset, count }: Tables['chunkTable'],
  blobs: readonly RafsBlob[],
  chunkBytes: number,
): RafsChunk[] {
  const table: RafsChunk[] = [];
  for (let index = 0; index < count; index++) {
    const at = offset + index * CHUNK_RECORD_BYTES;
    const blob = blobs[image.u32(at + 32)];
    if (blob === undefined) throw invalid(`chunk record ${index} names a blob that is not there`, at + 32);
    const chunk: RafsChunk = {
      blob,
      index: image.u32(at + 72),
      digest: image.slice(at, 32).toString('hex'),
      packedOffset: image.u64(at + 48),
      packedBytes: image.u32(at + 40),
      offset: image.u64(at + 56),
      sizeBytes: image.u32(at + 44),
    };
    checkChunk(chunk, chunkBytes, at);
    const isPlain = (image.u32(at + 36) & COMPRESSED_CHUNK) === 0;
    if (isPlain !== isPlainChunk(chunk))
      throw invalid(`chunk record ${index} is stored as it does not say`, at + 36);
    table.push(chunk);
  }
  return table;
}

/** @throws {CodedError} `LAYER_INVALID` for a chunk that does not lie in its blob */
function checkChunk(chunk: RafsChunk, chunkBytes: number, at: number): void {
  const { blob, index, packedOffset, packedBytes, offset, sizeBytes } = chunk;
  const isThere =
    index < blob.chunkCount &&
    sizeBytes > 0 &&
    sizeBytes <= chunkBytes &&
    packedBytes > 0 &&
    packedOffset + packedBytes <= blob.packedBytes &&
    offset % EROFS_BLOCK === 0 &&
    offset + sizeBytes <= blob.rawBytes;
  if (!isThere) throw invalid(`chunk ${index} does not lie in its blob`, at);
}
