import type { ReadAt } from '../pack/inflate.ts';
import type { ReadCompressor } from '../pack/unpack.ts';
import type { ByteString } from '../tar/byte-string.ts';
import { EMPTY_HEADER, encodeHeader } from '../tar/encode-header.ts';
import { COMPRESSOR_NUMBERS, invalid } from './format.ts';

/** Sections of a data blob; each is followed by a tar header of its own. */
export const SECTIONS = {
  chunks: 'image.blob',
  table: 'blob.meta',
  digests: 'blob.digest',
  bootstrap: 'image.boot',
  toc: 'rafs.blob.toc',
} as const;
/** In the table of contents only: the end of `blob.meta`. */
export const TABLE_HEADER = 'blob.meta.header';
/** Bytes of a tar header; content is filled up to a multiple. */
export const TAR_BLOCK = 512;
const TOC_ENTRY_BYTES = 128;
const MAX_TOC_BYTES = 64 * 1024;
const MAX_SECTIONS = 8;
const SIZE_AT = 124;
const SUM_AT = 148;
const MARK_AT = 257;
const GNU_MARK = 'ustar  \0';
const OCTAL_BYTES = 0o7777_7777_777;

/** A tar header in one block, however long the section is; with GNU's mark, for Nydus knows no other. */
export function sectionHeader(name: string, sizeBytes: number): Buffer {
  const isOctal = sizeBytes <= OCTAL_BYTES;
  const fields = { ...EMPTY_HEADER, name: name as ByteString, mode: 0o644, size: isOctal ? sizeBytes : 0 };
  const header = Buffer.from(encodeHeader(fields));
  header.write(GNU_MARK, MARK_AT, 'latin1');
  if (!isOctal) {
    // GNU's form of a number: the first bit set, then big endian.
    header.fill(0, SIZE_AT, SIZE_AT + 12);
    header[SIZE_AT] = 0x80;
    header.writeBigUInt64BE(BigInt(sizeBytes), SIZE_AT + 4);
  }
  header.write(`${sumOf(header).toString(8).padStart(6, '0')}\0 `, SUM_AT, 'latin1');
  return header;
}

function sumOf(header: Buffer): number {
  let sum = 8 * 0x20;
  for (const [at, byte] of header.entries()) if (at < SUM_AT || at >= SUM_AT + 8) sum += byte;
  return sum;
}

/** An entry of the table of contents at the end of a data blob: where a section lies, and what it must hash to. */
export interface TocEntry {
  readonly name: string;
  readonly compressor: ReadCompressor;
  /** Hex SHA-256 of what it is uncompressed. */
  readonly digest: string;
  readonly offset: number;
  readonly packedBytes: number;
  readonly rawBytes: number;
}

/** The table of contents without its tar header. */
export function encodeToc(entries: readonly TocEntry[]): Buffer {
  const toc = Buffer.alloc(entries.length * TOC_ENTRY_BYTES);
  for (const [index, entry] of entries.entries()) {
    const at = index * TOC_ENTRY_BYTES;
    toc.writeUInt32LE(COMPRESSOR_NUMBERS[entry.compressor].toc, at);
    toc.write(entry.name, at + 8, 'latin1');
    toc.write(entry.digest, at + 24, 'hex');
    toc.writeBigUInt64LE(BigInt(entry.offset), at + 56);
    toc.writeBigUInt64LE(BigInt(entry.packedBytes), at + 64);
    toc.writeBigUInt64LE(BigInt(entry.rawBytes), at + 72);
  }
  return toc;
}

/** Where a section lies in its blob. */
export interface Section {
  readonly name: string;
  readonly offset: number;
  readonly sizeBytes: number;
}

/** A blob's sections, told by their tar headers and by its table of contents. */
export interface Sections {
  readonly byHeader: ReadonlyMap<string, Section>;
  readonly toc: ReadonlyMap<string, TocEntry>;
}

/** Reads the headers from the end of a blob to its start, and the table of contents. @throws {CodedError} `LAYER_INVALID` */
export async function readSections(read: ReadAt, sizeBytes: number): Promise<Sections> {
  const byHeader = new Map<string, Section>();
  for (let end = sizeBytes; end > 0; ) {
    if (end < TAR_BLOCK || byHeader.size >= MAX_SECTIONS)
      throw invalid('its blob is not sections with headers', end);
    const headerAt = end - TAR_BLOCK;
    const { name, size } = readHeader(Buffer.from(await read(headerAt, TAR_BLOCK)), headerAt);
    if (size > headerAt)
      throw invalid(`the section ${name} is longer than what is before its header`, headerAt);
    if (byHeader.has(name)) throw invalid(`the section ${name} is there twice`, headerAt);
    end = headerAt - size;
    byHeader.set(name, { name, offset: end, sizeBytes: size });
  }
  const last = byHeader.get(SECTIONS.toc);
  if (last === undefined || last.offset + last.sizeBytes + TAR_BLOCK !== sizeBytes)
    throw invalid('its blob does not end with a table of contents');
  if (last.sizeBytes > MAX_TOC_BYTES || last.sizeBytes % TOC_ENTRY_BYTES !== 0)
    throw invalid(`its table of contents has ${last.sizeBytes} bytes`, last.offset);
  return { byHeader, toc: readToc(Buffer.from(await read(last.offset, last.sizeBytes)), last.offset) };
}

function readHeader(header: Buffer, at: number): { name: string; size: number } {
  const sum = /^ *([0-7]+)[\0 ]*$/.exec(header.toString('latin1', SUM_AT, SUM_AT + 8))?.[1] ?? '';
  if (Number.parseInt(sum, 8) !== sumOf(header))
    throw invalid('the header of a section does not match its checksum', at);
  const name = header.toString('latin1', 0, 100).replace(/\0.*$/s, '');
  const size =
    header[SIZE_AT] === 0x80
      ? Number(header.readBigUInt64BE(SIZE_AT + 4))
      : Number.parseInt(header.toString('latin1', SIZE_AT, SIZE_AT + 12), 8);
  if (!Number.isSafeInteger(size) || size < 0) throw invalid(`the section ${name} has no length`, at);
  return { name, size };
}

function readToc(toc: Buffer, offset: number): Map<string, TocEntry> {
  const entries = new Map<string, TocEntry>();
  for (let at = 0; at < toc.length; at += TOC_ENTRY_BYTES) {
    const name = toc.toString('latin1', at + 8, at + 24).replace(/\0+$/, '');
    const flags = toc.readUInt32LE(at);
    const compressor = (['none', 'zstd', 'lz4'] as const).find(
      (one) => COMPRESSOR_NUMBERS[one].toc === flags,
    );
    if (compressor === undefined)
      throw invalid(`the table of contents has an unknown compression of ${name}`, offset + at);
    if (
      toc.readUInt32LE(at + 4) !== 0 ||
      toc.subarray(at + 80, at + TOC_ENTRY_BYTES).some((byte) => byte !== 0)
    )
      throw invalid('the table of contents has bytes that mean nothing here', offset + at);
    const numbers = [56, 64, 72].map((place) => Number(toc.readBigUInt64LE(at + place)));
    const [from, packedBytes, rawBytes] = numbers as [number, number, number];
    if (!numbers.every(Number.isSafeInteger))
      throw invalid(`the table of contents has no place of ${name}`, offset + at);
    const digest = toc.toString('hex', at + 24, at + 56);
    entries.set(name, { name, compressor, digest, offset: from, packedBytes, rawBytes });
  }
  return entries;
}
