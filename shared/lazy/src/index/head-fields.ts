import type { Digest, DigestAlgorithm } from '@sepia/base/digest';
import { READ_COMPRESSORS, type ReadCompressor } from '../pack/unpack.ts';
import { invalidIndex } from './byte-reader.ts';
import type { LayerSpan } from './layer-index.ts';

/** A data blob that spans lie in. */
export interface SpanSource {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly compressor: ReadCompressor;
}

/** Which bytes of a data blob a span is. */
export interface PackedPlace {
  readonly source: number;
  readonly bytes: number;
}

/** Longest span of a layer, in uncompressed bytes. */
export const MAX_SPAN_BYTES = 64 * 1024 * 1024;
/** Most data blobs that one index tells of. */
export const MAX_SOURCES = 254;
/** Digest, length, compressor. */
export const SOURCE_BYTES = 88;
/** Of an offset in a data blob; its number follows. */
const OFFSET_BYTES = 6;
const ALGORITHMS: readonly DigestAlgorithm[] = ['sha256', 'sha512'];

/** Where a span lies in its data blob. */
export function putPacked(head: Buffer, at: number, offset: number, { source, bytes }: PackedPlace): void {
  head.writeUIntLE(offset, at, OFFSET_BYTES);
  head.writeUInt16LE(source, at + OFFSET_BYTES);
  head.writeUInt32LE(bytes, at + 20);
}

/** Place of a span in a data blob. */
export function getPacked(
  head: Buffer,
  at: number,
  sources: readonly SpanSource[],
): Pick<LayerSpan, 'compressedBit'> & { packed: PackedPlace } {
  const offset = head.readUIntLE(at, OFFSET_BYTES);
  const packed = { source: head.readUInt16LE(at + OFFSET_BYTES), bytes: head.readUInt32LE(at + 20) };
  const source = sources[packed.source] ?? invalidIndex('a span is in no data blob');
  if (packed.bytes === 0 || packed.bytes > MAX_SPAN_BYTES || offset + packed.bytes > source.sizeBytes)
    invalidIndex('a span lies outside of its data blob');
  return { compressedBit: offset * 8, packed };
}

/** Writes the source of spans at `at`; returns where it ends. */
export function putSource(head: Buffer, at: number, { digest, sizeBytes, compressor }: SpanSource): number {
  putDigest(head, at, digest);
  putNumber(head, at + 72, sizeBytes);
  head.writeUInt8(READ_COMPRESSORS.indexOf(compressor), at + 80);
  return at + SOURCE_BYTES;
}

/** Reads what `putSource` wrote. @throws {CodedError} `INDEX_INVALID` */
export function getSource(head: Buffer, at: number): SpanSource {
  const compressor = READ_COMPRESSORS[head[at + 80]!] ?? invalidIndex('unknown compressor of a data blob');
  return { digest: getDigest(head, at), sizeBytes: getNumber(head, at + 72), compressor };
}

/** One byte of algorithm (1 sha256, 2 sha512), seven zero, the digest in 64 bytes. */
export function putDigest(head: Buffer, at: number, digest: Digest): void {
  const [algorithm, hex] = digest.split(':') as [DigestAlgorithm, string];
  head.writeUInt8(ALGORITHMS.indexOf(algorithm) + 1, at);
  Buffer.from(hex, 'hex').copy(head, at + 8);
}

/** Reads what `putDigest` wrote. @throws {CodedError} `INDEX_INVALID` */
export function getDigest(head: Buffer, at: number): Digest {
  const algorithm = ALGORITHMS[head[at]! - 1] ?? invalidIndex('unknown digest');
  const bytes = head.subarray(at + 8, at + (algorithm === 'sha256' ? 40 : 72));
  return `${algorithm}:${bytes.toString('hex')}` as Digest;
}

/** Writes a whole number below 2⁵³ as u64, little-endian. */
export function putNumber(head: Buffer, at: number, value: number): void {
  head.writeUInt32LE(value % 2 ** 32, at);
  head.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}

/** Reads what `putNumber` wrote. @throws {CodedError} `INDEX_INVALID` */
export function getNumber(head: Buffer, at: number): number {
  const value = head.readUInt32LE(at) + head.readUInt32LE(at + 4) * 2 ** 32;
  return Number.isSafeInteger(value) ? value : invalidIndex('a number is too large');
}
