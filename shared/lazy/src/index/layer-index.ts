import { createHash } from 'node:crypto';
import { crc32, deflateRawSync, inflateRawSync } from 'node:zlib';
import type { Digest } from '@sepia/base/digest';
import { CodedError, systemCode } from '@sepia/base/errors';
import { invalidIndex } from './byte-reader.ts';
import { decodeEntries, encodeEntries } from './entries-codec.ts';
import {
  getDigest,
  getNumber,
  getPacked,
  getSource,
  MAX_SOURCES,
  MAX_SPAN_BYTES,
  type PackedPlace,
  putDigest,
  putNumber,
  putPacked,
  putSource,
  SOURCE_BYTES,
  type SpanSource,
} from './head-fields.ts';
import type { LayerEntry } from './layer-entry.ts';

/** How a layer's blob is compressed; `chunks`: its content lies in chunks of the data blobs of a Nydus image. */
export type LayerCompression = 'none' | 'gzip' | 'zstd' | 'chunks';

/** What a layer is: a tar of its own, or of a Nydus image the layer with the bootstrap, or a data blob. */
const LAYER_KINDS = ['layer', 'nydus-bootstrap', 'nydus-blob'] as const;
/** What a layer is to those that show it, see `LAYER_KINDS`. */
export type LayerKind = (typeof LAYER_KINDS)[number];

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
  /** Of a Nydus image: number of the data blob, and how many of its bytes; `compressedBit` is of that blob, too. */
  readonly packed?: PackedPlace;
}

/** The head of an index: all of a layer's files and spans, but not the windows that some spans are read by. Sizes are bytes. */
export interface LayerIndex {
  readonly kind: LayerKind;
  readonly layer: Digest;
  readonly diffId: Digest;
  readonly compression: LayerCompression;
  readonly compressedBytes: number;
  readonly uncompressedBytes: number;
  readonly entries: readonly LayerEntry[];
  readonly spans: readonly LayerSpan[];
  /** Data blobs by their numbers in spans; empty where spans lie in the layer itself. */
  readonly sources: readonly SpanSource[];
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
  readonly packed?: PackedPlace;
}

/** A layer's index before it is bytes: where things lie in them is found while they are written. */
export interface IndexToWrite
  extends Omit<LayerIndex, 'kind' | 'spans' | 'sources' | 'headBytes' | 'indexBytes'> {
  readonly spans: readonly SpanToWrite[];
  /** Left out: a tar of its own. */
  readonly nydus?: { readonly kind: Exclude<LayerKind, 'layer'>; readonly sources: readonly SpanSource[] };
}

const MAGIC = Buffer.from('SEPIALX\n', 'latin1');
/** Of indexes of a tar; a change of meaning raises it, and who reads only lower ones refuses it. */
const INDEX_VERSION = 1;
/** Version of indexes of Nydus layers: who reads only the first refuses them. */
const NYDUS_VERSION = 2;
/** The fixed first part of an index; it says how long the head is. */
export const INDEX_HEADER_BYTES = 256;
const SPAN_BYTES = 56;
/** A SHA-256, with which a head ends. */
export const SUM_BYTES = 32;
const MAX_HEAD_BYTES = 256 * 1024 * 1024;
const MAX_ENTRIES_BYTES = 1024 * 1024 * 1024;
const WINDOW_BYTES = 32 * 1024;
const COMPRESSIONS: readonly LayerCompression[] = ['none', 'gzip', 'zstd', 'chunks'];
const KIND_AT = 13;
const SOURCES_AT = 216;

/** A window as an index stores it: raw deflate of its bytes; an empty one stays empty. */
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
  const sources = index.nydus?.sources ?? [];
  const fixedBytes = INDEX_HEADER_BYTES + index.spans.length * SPAN_BYTES + sources.length * SOURCE_BYTES;
  const headBytes = fixedBytes + entries.length + SUM_BYTES;
  const windowBytes = index.spans.reduce((total, span) => total + span.window.length, 0);
  const head = Buffer.alloc(headBytes);
  MAGIC.copy(head);
  head.writeUInt32LE(index.nydus === undefined ? INDEX_VERSION : NYDUS_VERSION, 8);
  head.writeUInt8(COMPRESSIONS.indexOf(index.compression), 12);
  head.writeUInt8(LAYER_KINDS.indexOf(index.nydus?.kind ?? 'layer'), KIND_AT);
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
  head.writeUInt32LE(sources.length, SOURCES_AT);
  let at = INDEX_HEADER_BYTES;
  for (const span of index.spans) at = putSpan(head, at, span);
  for (const source of sources) at = putSource(head, at, source);
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
  if (version !== INDEX_VERSION && version !== NYDUS_VERSION)
    throw new CodedError('INDEX_INVALID', {
      message: `layer index has version ${version}; this Sepia reads ${INDEX_VERSION} and ${NYDUS_VERSION}`,
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
  const { kind, compression, sourceCount } = readKind(head);
  const uncompressedBytes = getNumber(head, 40);
  const compressedBytes = getNumber(head, 32);
  const entriesBytes = getNumber(head, 48);
  const rawBytes = getNumber(head, 56);
  const spanCount = head.readUInt32LE(64);
  if (
    INDEX_HEADER_BYTES + spanCount * SPAN_BYTES + sourceCount * SOURCE_BYTES + entriesBytes + SUM_BYTES !==
      headBytes ||
    rawBytes > MAX_ENTRIES_BYTES
  )
    invalidIndex('lengths do not fit');
  const indexBytes = getNumber(head, 24);
  const sourcesAt = INDEX_HEADER_BYTES + spanCount * SPAN_BYTES;
  const sources = Array.from({ length: sourceCount }, (_none, index) =>
    getSource(head, sourcesAt + index * SOURCE_BYTES),
  );
  const bounds = { headBytes, indexBytes, compressedBytes, uncompressedBytes };
  const spans = readSpans(head, spanCount, kind === 'layer' ? bounds : { ...bounds, sources });
  const entriesAt = sourcesAt + sourceCount * SOURCE_BYTES;
  return {
    head: {
      ...{ kind, layer: getDigest(head, 72), diffId: getDigest(head, 144) },
      ...{ compression, compressedBytes, uncompressedBytes, spans, sources, headBytes, indexBytes },
    },
    entries: {
      bytes: head.subarray(entriesAt, entriesAt + entriesBytes),
      rawBytes,
      count: head.readUInt32LE(68),
    },
  };
}

/** What version and first bytes say together. */
function readKind(head: Buffer): {
  kind: LayerKind;
  compression: LayerCompression;
  sourceCount: number;
} {
  const compression = COMPRESSIONS[head[12]!] ?? invalidIndex('unknown compression');
  const kind = LAYER_KINDS[head[KIND_AT]!] ?? invalidIndex('unknown kind of layer');
  const isNydus = head.readUInt32LE(8) === NYDUS_VERSION;
  if (isNydus !== (kind !== 'layer') || isNydus !== (compression === 'chunks'))
    invalidIndex('version and kind do not fit');
  const sourceCount = head.readUInt32LE(SOURCES_AT);
  if (sourceCount > (kind === 'nydus-bootstrap' ? MAX_SOURCES : 0)) invalidIndex('number of data blobs');
  const isEmpty = head.readUInt32LE(64) === 0 && head.readUInt32LE(68) === 0;
  if (kind === 'nydus-blob' && !isEmpty) invalidIndex('a data blob has content of its own');
  return { kind, compression, sourceCount };
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

/** The compressed bytes that a span is read from: first byte, byte after the last; of a Nydus image those of its data blob. */
export function compressedRange(
  index: Pick<LayerIndex, 'spans' | 'compressedBytes'>,
  spanIndex: number,
): { start: number; end: number } {
  const { compressedBit, packed } = index.spans[spanIndex]!;
  const start = Math.floor(compressedBit / 8);
  if (packed !== undefined) return { start, end: start + packed.bytes };
  const next = index.spans[spanIndex + 1];
  return {
    start,
    end: next === undefined ? index.compressedBytes : Math.ceil(next.compressedBit / 8),
  };
}

/** Bytes that spans are read from by one request. */
export interface SpanRange {
  readonly first: number;
  readonly last: number;
  readonly start: number;
  readonly end: number;
  /** The data blob that they lie in; undefined: the layer itself. */
  readonly source: Digest | undefined;
}

/** Spans that are neighbours, as ranges: one in the layer itself; of a Nydus image one for each row in a data blob. */
export function spanRanges(
  index: Pick<LayerIndex, 'spans' | 'compressedBytes' | 'sources'>,
  first: number,
  last: number,
): SpanRange[] {
  const ranges: SpanRange[] = [];
  for (let span = first; span <= last; span++) {
    const { start, end } = compressedRange(index, span);
    const number = index.spans[span]!.packed?.source;
    const source = number === undefined ? undefined : index.sources[number]!.digest;
    const before = ranges.at(-1);
    const isNext =
      before !== undefined && before.source === source && (source === undefined || before.end === start);
    if (isNext) ranges[ranges.length - 1] = { ...before, last: span, end };
    else ranges.push({ first: span, last: span, start, end, source });
  }
  return ranges;
}

interface Bounds {
  readonly headBytes: number;
  readonly indexBytes: number;
  readonly compressedBytes: number;
  readonly uncompressedBytes: number;
  /** Of a Nydus image: spans lie in these, in any order. */
  readonly sources?: readonly SpanSource[];
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
      ...(bounds.sources === undefined
        ? { compressedBit: getNumber(head, at) }
        : getPacked(head, at, bounds.sources)),
      offset,
      length: head.readUInt32LE(at + 8),
      windowLength: head.readUInt32LE(at + 12),
      windowCrc: head.readUInt32LE(at + 16),
      sha256: head.subarray(at + 24, at + 56),
      windowOffset,
    };
    if (span.length === 0 || span.length > MAX_SPAN_BYTES || span.windowLength > 2 * WINDOW_BYTES)
      invalidIndex('length of a span');
    const isBehind = span.compressedBit > bit && span.compressedBit < bounds.compressedBytes * 8;
    if (span.packed === undefined && !isBehind) invalidIndex('order of spans');
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
  const { packed } = span;
  if (packed === undefined) putNumber(head, at, span.compressedBit);
  else putPacked(head, at, span.compressedBit / 8, packed);
  head.writeUInt32LE(span.length, at + 8);
  head.writeUInt32LE(span.window.length, at + 12);
  head.writeUInt32LE(crc32(span.window), at + 16);
  span.sha256.copy(head, at + 24);
  return at + SPAN_BYTES;
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
