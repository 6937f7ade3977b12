import { CodedError } from '@sepia/base/errors';
import type { TreeNode } from '../erofs/layer-tree.ts';
import type { ReadCompressor } from '../pack/unpack.ts';
import type { ByteString } from '../tar/byte-string.ts';

/** The numbers of a compressor: in the flags of the file system, in tables of blobs, in a table of contents. */
export const COMPRESSOR_NUMBERS: Readonly<Record<ReadCompressor, { flag: number; id: number; toc: number }>> =
  {
    none: { flag: 0x1, id: 0, toc: 1 },
    lz4: { flag: 0x2, id: 1, toc: 4 },
    gzip: { flag: 0x40, id: 2, toc: 0 },
    zstd: { flag: 0x80, id: 3, toc: 2 },
  };
/** What content is hashed with: the flag of the file system, and the number in tables of blobs. */
export const DIGESTERS = { blake3: { flag: 0x4, id: 0 }, sha256: { flag: 0x8, id: 1 } } as const;
/** What content is hashed with, see {@link DIGESTERS}. */
export type Digester = keyof typeof DIGESTERS;
/** Further flags of the extended superblock, beside those of compressor and digester. */
export const FLAGS = {
  explicitOwners: 0x10,
  hasXattrs: 0x20,
  inlinedDigests: 0x100,
  tarfs: 0x200,
  cipherNone: 0x100_0000,
  cipherAes: 0x200_0000,
} as const;
/** Bits of `features` of a data blob of a Nydus image. */
export const FEATURES = {
  aligned: 0x1,
  inlinedBootstrap: 0x2,
  chunkInfoV2: 0x4,
  zran: 0x8,
  separate: 0x10,
  inlinedDigests: 0x20,
  tarfs: 0x40,
  batch: 0x80,
  encrypted: 0x100,
  external: 0x800,
  tarHeaders: 0x1000_0000,
  toc: 0x2000_0000,
  capTarToc: 0x4000_0000,
} as const;
/** Features of every blob that is written. */
export const BLOB_FEATURES =
  FEATURES.aligned | FEATURES.inlinedDigests | FEATURES.tarHeaders | FEATURES.toc | FEATURES.capTarToc;
/** Blobs that are read in no other way than these say. */
export const FOREIGN_FEATURES =
  FEATURES.zran |
  FEATURES.separate |
  FEATURES.tarfs |
  FEATURES.batch |
  FEATURES.encrypted |
  FEATURES.external;

/** Offset of the superblock in a bootstrap, in bytes, as in every EROFS image. */
export const SUPERBLOCK_AT = 1024;
/** Offset of the extended superblock in a bootstrap, in bytes. */
export const EXTENDED_AT = 1152;
/** Offset of the table of devices in a bootstrap, in bytes; a device is a data blob. */
export const DEVICES_AT = 1408;
/** Bytes of a row of the table of devices. */
export const DEVICE_BYTES = 128;
/** Bytes of a row of the table of blobs. */
export const BLOB_BYTES = 256;
/** Bytes of a chunk's record in a bootstrap. */
export const CHUNK_RECORD_BYTES = 80;
/** Bytes of an entry of a file's chunk index. */
export const CHUNK_INDEX_BYTES = 8;
/** "Its metadata is RAFS v6" (compatible), "chunked files", "device table" (both incompatible). */
export const COMPAT_RAFS = 0x4000_0000;
export const INCOMPAT = 0x4 | 0x8;
/** Block length of the image as a power of two: 4 KiB. */
export const BLOCK_BITS = 12;
/** "Has chunk indexes" in the chunk format of an inode; the low five bits say how large chunks are. */
export const CHUNK_INDEXES = 0x20;
/** Flag of a chunk's record: it is stored compressed. */
export const COMPRESSED_CHUNK = 1;
/** Devices begin at a multiple of this in the flat address space. */
export const DEVICE_ALIGN = 0x8_0000;
/** Blob ids have 8 bits, one of which is none. */
export const MAX_BLOBS = 254;
/**
 * Bound for the chunks of a data blob, and for the chunk records of a bootstrap; a layer with this many or more is left as it
 * is. Nydus allows 16 million, but each is held in memory, and a small blob may claim to have them all.
 */
export const MAX_CHUNKS = 4_000_000;
/** Shortest chunk length that is taken, a block. */
export const LEAST_CHUNK_BYTES = 4096;
/** Longest chunk length that is taken. */
export const MOST_CHUNK_BYTES = 16 * 1024 * 1024;

/** Stands for the id of a blob inside of the blob itself. */
export const ID_INSIDE = 'x'.repeat(64);
/** Names of files that hide files of lower layers (OCI image-spec, "Whiteouts"). */
export const WHITEOUT = '.wh.';
/** In a directory: hides all of that directory in lower layers. */
export const OPAQUE = '.wh..wh..opq' as ByteString;

/** Where the table of chunks lies in a data blob. */
export interface ChunkTablePlace {
  readonly offset: number;
  readonly packedBytes: number;
  readonly rawBytes: number;
  readonly compressor: ReadCompressor;
}

/** A data blob as the bootstrap of an image describes it: how its chunks are stored, and where their table lies. */
export interface RafsBlob {
  /** Hex SHA-256 of the blob: the digest of the layer; {@link ID_INSIDE} in the bootstrap that lies in it. */
  readonly id: string;
  readonly compressor: ReadCompressor;
  readonly features: number;
  readonly chunkBytes: number;
  readonly chunkCount: number;
  /** Bytes of chunks in the blob; nydus-image 2.2 counts their table and digests, too. */
  readonly packedBytes: number;
  /** Length of the device that the blob is to the kernel: whole blocks. */
  readonly rawBytes: number;
  readonly table: ChunkTablePlace;
}

/** A part of a file as its inode names it. */
export interface ChunkAddress {
  readonly blob: RafsBlob;
  /** Number in its blob. */
  readonly index: number;
  /** Where it lies on the device: at a whole block. */
  readonly offset: number;
  readonly sizeBytes: number;
}

/** Where a part of a file lies: in the flat address space of the image, and compressed, in its data blob. Offsets and lengths are bytes. */
export interface RafsChunk extends ChunkAddress {
  /** Hex digest of its content; {@link NO_DIGEST} in images of nydus-image. */
  readonly digest: string;
  readonly packedOffset: number;
  readonly packedBytes: number;
}
/** `nydus-image merge` does not know the digests of chunks, and keeps one record of those that have none. */
export const NO_DIGEST = '0'.repeat(64);

/** What the bootstrap of a Nydus image says: its tree of files, and where the content of each lies. */
export interface Bootstrap {
  readonly root: TreeNode;
  /** Chunks of each file, in order; files without content have none. */
  readonly chunks: ReadonlyMap<TreeNode, readonly RafsChunk[]>;
  /** Every chunk is in one of these. */
  readonly blobs: readonly RafsBlob[];
  readonly chunkBytes: number;
  readonly compressor: ReadCompressor;
  /** Files that are read ahead. */
  readonly prefetch: readonly TreeNode[];
}

/** Is the chunk stored as it is? */
export function isPlainChunk({
  packedBytes,
  sizeBytes,
}: Pick<RafsChunk, 'packedBytes' | 'sizeBytes'>): boolean {
  return packedBytes === sizeBytes;
}

/** The least multiple of `step` that is not below `value`. */
export function roundUp(value: number, step: number): number {
  return Math.ceil(value / step) * step;
}

/** `LAYER_INVALID` for a Nydus image, with what is wrong, and at which byte. */
export function invalid(what: string, offset?: number): CodedError {
  const place = offset === undefined ? '' : ` (at byte ${offset})`;
  return new CodedError('LAYER_INVALID', {
    message: `not a valid Nydus image: ${what}${place}`,
    ...(offset === undefined ? {} : { detail: { offset } }),
  });
}
