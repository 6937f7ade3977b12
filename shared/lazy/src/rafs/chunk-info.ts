import { constants, zstdCompressSync } from 'node:zlib';
import { type Compressor, type ReadCompressor, unpackExactly } from '../pack/unpack.ts';
import {
  type ChunkTablePlace,
  COMPRESSOR_NUMBERS,
  FEATURES,
  invalid,
  type RafsBlob,
  type RafsChunk,
} from './format.ts';

/** The table of chunks ends with this many bytes of header. */
export const HEADER_BYTES = 4096;
const MAGIC = 0xb10b_b10b;
const ENTRY_BYTES = 16;
const ENTRY_V2_BYTES = 24;
const LAST_MAGIC_AT = HEADER_BYTES - 4;
const USED_BYTES = 64;
const ZSTD_LEVEL = 3;

/** What the table of a blob says of a chunk. */
export type ChunkInfo = Pick<RafsChunk, 'packedOffset' | 'packedBytes' | 'offset' | 'sizeBytes'>;

/** The table of chunks (version 1: 16 bytes each), by which nydusd finds them in the blob. */
export function encodeChunkInfos(chunks: readonly ChunkInfo[]): Buffer {
  const table = Buffer.alloc(chunks.length * ENTRY_BYTES);
  for (const [index, { packedOffset, packedBytes, offset, sizeBytes }] of chunks.entries()) {
    const at = index * ENTRY_BYTES;
    table.writeBigUInt64LE(lowAndHigh(sizeBytes, 8n) | BigInt(offset), at);
    table.writeBigUInt64LE(lowAndHigh(packedBytes, 40n) | BigInt(packedOffset), at + 8);
  }
  return table;
}

/** A length less one: its low 20 bits on top, its high 4 bits at `high`. */
function lowAndHigh(bytes: number, high: bigint): bigint {
  const less = BigInt(bytes - 1);
  return ((less & 0xf_ffffn) << 44n) | ((less >> 20n) << high);
}

/** Reads a table of version 1, or 2 (24 bytes each). */
export function readChunkInfos(table: Buffer, features: number): ChunkInfo[] {
  const isV2 = (features & FEATURES.chunkInfoV2) !== 0;
  const entryBytes = isV2 ? ENTRY_V2_BYTES : ENTRY_BYTES;
  const infos: ChunkInfo[] = [];
  for (let at = 0; at + entryBytes <= table.length; at += entryBytes) {
    const one = table.readBigUInt64LE(at);
    const other = table.readBigUInt64LE(at + 8);
    const packedOffset = Number(other & 0xff_ffff_ffffn);
    if (isV2) {
      const offset = Number(one & 0xffff_ffffn) * 4096;
      const sizeBytes = Number((one >> 32n) & 0xff_ffffn) + 1;
      infos.push({ offset, sizeBytes, packedOffset, packedBytes: Number(other >> 40n) });
    } else {
      const offset = Number(one & 0xfff_ffff_f000n);
      infos.push({ offset, packedOffset, sizeBytes: lengthOf(one, 8n), packedBytes: lengthOf(other, 40n) });
    }
  }
  return infos;
}

function lengthOf(word: bigint, high: bigint): number {
  return Number((word >> 44n) | (((word >> high) & 0xfn) << 20n)) + 1;
}

/** A table as it stands in a blob, and what compressed it. */
export function packChunkInfos(
  table: Buffer,
  chunks: Compressor,
): { packed: Buffer; compressor: Compressor } {
  if (chunks === 'none') return { packed: table, compressor: 'none' };
  const packed = zstdCompressSync(table, { params: { [constants.ZSTD_c_compressionLevel]: ZSTD_LEVEL } });
  return packed.length < table.length
    ? { packed, compressor: 'zstd' }
    : { packed: table, compressor: 'none' };
}

/** The header behind the table. */
export function encodeChunkHeader({
  table,
  features,
  chunkCount,
}: Pick<RafsBlob, 'table' | 'features' | 'chunkCount'>): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(MAGIC, 0);
  header.writeUInt32LE(features, 4);
  header.writeUInt32LE(COMPRESSOR_NUMBERS[table.compressor].id, 8);
  header.writeUInt32LE(chunkCount, 12);
  header.writeBigUInt64LE(BigInt(table.offset), 16);
  header.writeBigUInt64LE(BigInt(table.packedBytes), 24);
  header.writeBigUInt64LE(BigInt(table.rawBytes), 32);
  header.writeUInt32LE(MAGIC, LAST_MAGIC_AT);
  return header;
}

/** Why a header does not fit the blob that a bootstrap describes; undefined if it does. */
export function headerFault(
  header: Buffer,
  blob: Pick<RafsBlob, 'table' | 'chunkCount'>,
): string | undefined {
  if (header.readUInt32LE(0) !== MAGIC || header.readUInt32LE(LAST_MAGIC_AT) !== MAGIC)
    return 'the header of the chunk table has no magic number';
  const place: ChunkTablePlace = blob.table;
  const isSame =
    header.readUInt32LE(8) === COMPRESSOR_NUMBERS[place.compressor].id &&
    header.readUInt32LE(12) === blob.chunkCount &&
    header.readBigUInt64LE(16) === BigInt(place.offset) &&
    header.readBigUInt64LE(24) === BigInt(place.packedBytes) &&
    header.readBigUInt64LE(32) === BigInt(place.rawBytes);
  if (!isSame) return 'the header of the chunk table says something else than the bootstrap';
  const isClean = header.subarray(40, USED_BYTES).every((byte) => byte === 0);
  return isClean && header.subarray(USED_BYTES, LAST_MAGIC_AT).every((byte) => byte === 0)
    ? undefined
    : 'the header of the chunk table has bytes that mean nothing here';
}

/** Exactly `sizeBytes` of what was compressed. @throws {CodedError} `LAYER_INVALID` */
export function unpack(
  packed: Uint8Array,
  compressor: ReadCompressor,
  sizeBytes: number,
  what: string,
): Buffer {
  const raw = unpackExactly(packed, compressor, sizeBytes);
  if (typeof raw === 'string') throw invalid(`${what} ${raw}`);
  return raw;
}
