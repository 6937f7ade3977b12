import { createHash } from 'node:crypto';
import { crc32, deflateRawSync, inflateRawSync } from 'node:zlib';
import type { Digest, DigestAlgorithm } from '@sepia/base/digest';
import { CodedError, systemCode } from '@sepia/base/errors';
import { invalidIndex } from './byte-reader.ts';
import { decodeEntries, encodeEntries } from './entries-codec.ts';
import type { LayerEntry } from './layer-entry.ts';

/** How a layer's blob is compressed. */
export type LayerCompression = 'none' | 'gzip' | 'zstd';

/** A stretch of the uncompressed layer that is read and verified alone. */
export interface LayerSpan {
  /** Where decompression begins: a bit of the blob (a multiple of 8 but for gzip). */
  readonly compressedBit: number;
  /** Where it begins in the uncompressed layer. */
  readonly offset: number;
  readonly length: number;
  readonly sha256: Buffer;
  /** Where its window is stored, from the index's first byte; length 0: none is needed. */
  readonly windowOffset: number;
  readonly windowLength: number;
  /** CRC-32 of the stored window. */
  readonly windowCrc: number;
}

/** The head of an index: all but the windows. */
export interface LayerIndex {
  readonly layer: Digest;
  readonly diffId: Digest;
  readonly compression: LayerCompression;
  readonly compressedBytes: number;
  readonly uncompressedBytes: number;
  readonly entries: readonly LayerEntry[];
  readonly spans: readonly LayerSpan[];
  readonly headBytes: number;
  readonly indexBytes: number;
}

/** What an index says of its layer but for the entries, of which there may be very many. */
export type LayerHead = Omit<LayerIndex, 'entries'>;

/** What {@link writeIndex} needs of a span: its window as it is, not stored yet. */
export interface SpanToWrite {
  readonly compressedBit: number;
  readonly offset: number;
  readonly length: number;
  readonly sha256: Buffer;
  /** Compressed by {@link storeWindow}; empty where none is needed. */
  readonly window: Buffer;
}

export interface IndexToWrite extends Omit<LayerIndex, 'spans' | 'headBytes' | 'indexBytes'> {
  readonly spans: readonly SpanToWrite[];
}

const MAGIC = Buffer.from('SEPIALX\n', 'latin1');
export const INDEX_VERSION = 1;
/** The fixed first part of an index; it says how long the head is. */
export const INDEX_HEADER_BYTES = 256;
const SPAN_BYTES = 56;
const SUM_BYTES = 32;
const MAX_HEAD_BYTES = 256 * 1024 * 1024;
const MAX_ENTRIES_BYTES = 1024 * 1024 * 1024;
const MAX_SPAN_BYTES = 64 * 1024 * 1024;
const WINDOW_BYTES = 32 * 1024;
const COMPRESSIONS: readonly LayerCompression[] = ['none', 'gzip', 'zstd'];
const ALGORITHMS: readonly DigestAlgorithm[] = ['sha256', 'sha512'];

/** A window as it is stored: raw deflate. */
export function storeWindow(window: Buffer): Buffer {
  return window.length === 0 ? window : deflateRawSync(window, { level: 9 });
}

/**
 * The bytes of an index: header, spans, entries, SHA-256 of all that, windows (docs/adr, "The layer index", shows each
 * byte).
 */
export function writeIndex(index: IndexToWrite): Buffer {
  const raw = encodeEntries(index.entries);
  const entries = deflateRawSync(raw, { level: 9 });
  const headBytes = INDEX_HEADER_BYTES + index.spans.length * SPAN_BYTES + entries.length + SUM_BYTES;
  const windowBytes = index.spans.reduce((total, span) => total + span.window.length, 0);
  const head = Buffer.alloc(headBytes);
  MAGIC.copy(head);
  head.writeUInt32LE(INDEX_VERSION, 8);
  head.writeUInt8(COMPRESSIONS.indexOf(index.compression), 12);
  putNumber(head, 16, headBytes);
  putNumber(head, 24, headBytes + windowBytes);
  putNumber(head, 32, index.compressedBytes);
  putNumber(head, 40, index.uncompressedBytes);
  putNumber(head, 48, entries.length);
  putNumber(head, 56, raw.length);
  head.writeUInt32LE(index.spans.length, 64);
  head.writeUInt32LE(index.entries.length, 68);
  putDigest(head, 72, index.layer);
  putDigest(head, 144, index.diffId);
  let at = INDEX_HEADER_BYTES;
  for (const span of index.spans) at = putSpan(head, at, span);
  entries.copy(head, at);
  createHash('sha256')
    .update(head.subarray(0, -SUM_BYTES))
    .digest()
    .copy(head, headBytes - SUM_BYTES);
  return Buffer.concat([head, ...index.spans.map((span) => span.window)]);
}

/**
 * Length of an index's head, from its first {@link INDEX_HEADER_BYTES} bytes.
 * @throws {CodedError} `INDEX_INVALID`
 */
export function indexHeadBytes(header: Buffer): number {
  if (header.length < INDEX_HEADER_BYTES) invalidIndex('it is too short');
  if (!header.subarray(0, 8).equals(MAGIC)) invalidIndex('it does not begin as one');
  const version = header.readUInt32LE(8);
  if (version !== INDEX_VERSION)
    throw new CodedError('INDEX_INVALID', {
      message: `layer index has version ${version}; this Sepia reads ${INDEX_VERSION}`,
      detail: { found: version, expected: INDEX_VERSION },
    });
  const headBytes = getNumber(header, 16);
  if (headBytes > MAX_HEAD_BYTES || headBytes < INDEX_HEADER_BYTES + SUM_BYTES)
    invalidIndex('length of the head');
  return headBytes;
}

/** How many entries an index has by its head, which is not checked otherwise. @throws {CodedError} `INDEX_INVALID` */
export function indexEntries(head: Buffer): number {
  indexHeadBytes(head);
  return head.readUInt32LE(68);
}

/**
 * Reads the head of an index; bytes after it are not looked at.
 * @throws {CodedError} `INDEX_INVALID`
 */
export function readIndexHead(bytes: Buffer): LayerIndex {
  const { head, entries: stored } = readStored(bytes);
  const raw = inflate(stored.bytes, stored.rawBytes);
  const entries = decodeEntries(raw, stored.count);
  for (const entry of entries)
    if (entry.offset < 0 || entry.offset + entry.size > head.uncompressedBytes)
      invalidIndex('a file lies outside');
  return { ...head, entries };
}

/**
 * As {@link readIndexHead} without the entries; nothing of `bytes` is kept.
 * @throws {CodedError} `INDEX_INVALID`
 */
export function readIndexSpans(bytes: Buffer): LayerHead {
  return readStored(bytes).head;
}

/** The entries as they are stored. */
interface StoredEntries {
  readonly bytes: Buffer;
  readonly rawBytes: number;
  readonly count: number;
}

function readStored(bytes: Buffer): { readonly head: LayerHead; readonly entries: StoredEntries } {
  const headBytes = indexHeadBytes(bytes);
  if (bytes.length < headBytes) invalidIndex('it is cut short');
  const head = bytes.subarray(0, headBytes);
  const sum = createHash('sha256').update(head.subarray(0, -SUM_BYTES)).digest();
  if (!sum.equals(head.subarray(-SUM_BYTES))) invalidIndex('its checksum is wrong');
  const compression = COMPRESSIONS[head[12]!] ?? invalidIndex('unknown compression');
  const uncompressedBytes = getNumber(head, 40);
  const compressedBytes = getNumber(head, 32);
  const entriesBytes = getNumber(head, 48);
  const rawBytes = getNumber(head, 56);
  const spanCount = head.readUInt32LE(64);
  if (
    INDEX_HEADER_BYTES + spanCount * SPAN_BYTES + entriesBytes + SUM_BYTES !== headBytes ||
    rawBytes > MAX_ENTRIES_BYTES
  )
    invalidIndex('lengths do not fit');
  const indexBytes = getNumber(head, 24);
  const spans = readSpans(head, spanCount, { headBytes, indexBytes, compressedBytes, uncompressedBytes });
  const entriesAt = INDEX_HEADER_BYTES + spanCount * SPAN_BYTES;
  return {
    head: {
      layer: getDigest(head, 72),
      diffId: getDigest(head, 144),
      ...{ compression, compressedBytes, uncompressedBytes, spans, headBytes, indexBytes },
    },
    entries: {
      bytes: head.subarray(entriesAt, entriesAt + entriesBytes),
      rawBytes,
      count: head.readUInt32LE(68),
    },
  };
}

/**
 * The window of a span from its stored bytes.
 * @throws {CodedError} `INDEX_INVALID`
 */
export function readWindow(span: LayerSpan, stored: Buffer): Buffer {
  if (span.windowLength === 0) return Buffer.alloc(0);
  if (stored.length !== span.windowLength || crc32(stored) !== span.windowCrc)
    invalidIndex('a window is damaged');
  return inflate(stored, WINDOW_BYTES, true);
}

/** The compressed bytes that a span is read from: first byte, byte after the last. */
export function compressedRange(
  index: Pick<LayerIndex, 'spans' | 'compressedBytes'>,
  spanIndex: number,
): { start: number; end: number } {
  const next = index.spans[spanIndex + 1];
  return {
    start: Math.floor(index.spans[spanIndex]!.compressedBit / 8),
    end: next === undefined ? index.compressedBytes : Math.ceil(next.compressedBit / 8),
  };
}

interface Bounds {
  readonly headBytes: number;
  readonly indexBytes: number;
  readonly compressedBytes: number;
  readonly uncompressedBytes: number;
}

/** Spans must be adjacent and go forward in the blob; windows lie behind the head in the order of the spans. */
function readSpans(whole: Buffer, count: number, bounds: Bounds): LayerSpan[] {
  // A copy: what is cut from it would keep all of the index in memory.
  const head = Buffer.from(whole.subarray(0, INDEX_HEADER_BYTES + count * SPAN_BYTES));
  const spans: LayerSpan[] = [];
  let windowOffset = bounds.headBytes;
  let offset = 0;
  let bit = -1;
  for (let index = 0; index < count; index++) {
    const at = INDEX_HEADER_BYTES + index * SPAN_BYTES;
    const span: LayerSpan = {
      compressedBit: getNumber(head, at),
      offset,
      length: head.readUInt32LE(at + 8),
      windowLength: head.readUInt32LE(at + 12),
      windowCrc: head.readUInt32LE(at + 16),
      sha256: head.subarray(at + 24, at + 56),
      windowOffset,
    };
    if (span.length === 0 || span.length > MAX_SPAN_BYTES || span.windowLength > 2 * WINDOW_BYTES)
      invalidIndex('length of a span');
    if (span.compressedBit <= bit || span.compressedBit >= bounds.compressedBytes * 8)
      invalidIndex('order of spans');
    bit = span.compressedBit;
    offset += span.length;
    windowOffset += span.windowLength;
    spans.push(span);
  }
  if (offset !== bounds.uncompressedBytes) invalidIndex('spans do not cover the layer');
  if (windowOffset !== bounds.indexBytes) invalidIndex('windows do not fill the index');
  return spans;
}

function putSpan(head: Buffer, at: number, span: SpanToWrite): number {
  putNumber(head, at, span.compressedBit);
  head.writeUInt32LE(span.length, at + 8);
  head.writeUInt32LE(span.window.length, at + 12);
  head.writeUInt32LE(crc32(span.window), at + 16);
  span.sha256.copy(head, at + 24);
  return at + SPAN_BYTES;
}

/** One byte of algorithm (1 sha256, 2 sha512), seven zero, the digest in 64 bytes. */
function putDigest(head: Buffer, at: number, digest: Digest): void {
  const [algorithm, hex] = digest.split(':') as [DigestAlgorithm, string];
  head.writeUInt8(ALGORITHMS.indexOf(algorithm) + 1, at);
  Buffer.from(hex, 'hex').copy(head, at + 8);
}

function getDigest(head: Buffer, at: number): Digest {
  const algorithm = ALGORITHMS[head[at]! - 1] ?? invalidIndex('unknown digest');
  const bytes = head.subarray(at + 8, at + (algorithm === 'sha256' ? 40 : 72));
  return `${algorithm}:${bytes.toString('hex')}` as Digest;
}

function putNumber(head: Buffer, at: number, value: number): void {
  head.writeUInt32LE(value % 2 ** 32, at);
  head.writeUInt32LE(Math.floor(value / 2 ** 32), at + 4);
}

function getNumber(head: Buffer, at: number): number {
  const value = head.readUInt32LE(at) + head.readUInt32LE(at + 4) * 2 ** 32;
  return Number.isSafeInteger(value) ? value : invalidIndex('a number is too large');
}

function inflate(bytes: Buffer, most: number, mayBeShorter = false): Buffer {
  try {
    const raw = inflateRawSync(bytes, { maxOutputLength: Math.max(1, most) });
    return raw.length === most || mayBeShorter ? raw : invalidIndex('length of its content');
  } catch (error) {
    const code = systemCode(error);
    if (code?.startsWith('Z_') === true || code === 'ERR_BUFFER_TOO_LARGE')
      return invalidIndex('its content');
    throw error;
  }
}
