import { CodedError } from '@sepia/base/errors';
import { type ByteString, byteString } from './byte-string.ts';
import { BLOCK, isZeroBlock, parseHeader, type TarHeader, typeOf } from './header.ts';
import { isSparse, keptOnly, type PaxRecords, parsePax, paxNumber, paxTime, xattrsOf } from './pax.ts';
import { isPlainHeader } from './plain-header.ts';
import type { TarEntry } from './tar-entry.ts';

/** Extended headers longer than this are refused, as by Go's `archive/tar`. */
const MAX_EXTENDED_BYTES = 1024 * 1024;
/** All that stands before one entry: an extended header and both long names. Some readers take any number of them. */
const MAX_BEFORE_ENTRY_BYTES = 4 * MAX_EXTENDED_BYTES;
/** GNU's old sparse map goes on in blocks of 21 runs: these hold a million. */
const MAX_SPARSE_MAP_BYTES = 32 * MAX_EXTENDED_BYTES;
/** GNU's old sparse form (tar manual, "Sparse Formats"): tells whether another block of its map follows. */
const HEADER_MAP_GOES_ON = 482;
const MAP_GOES_ON = 504;
/** Records of global headers: each entry is asked for all of them. Writers of tars have one or two. */
const MAX_GLOBALS = 64;
const NO_RECORDS: PaxRecords = new Map();

/** What a {@link TarReader} tells. */
export interface TarSink {
  /** An entry, in the archive's order, before its payload. */
  entry(entry: TarEntry): void;
  /** The next bytes of the last entry's payload, a view into the chunk that was pushed. */
  payload?(bytes: Uint8Array, entry: TarEntry): void;
}

type State = 'header' | 'extended' | 'sparse map' | 'payload' | 'padding' | 'ended';

/**
 * Reads a tar archive that arrives in chunks of any size: USTAR, PAX (global headers included), GNU long names,
 * base-256 numbers, version 7. Precedence where both are there: GNU long name, then the entry's PAX header, then global
 * headers, then the header. Of several PAX headers the last one counts, and what stands before a global header is lost, as
 * Go's `archive/tar` has it. Memory: one header and the extended ones that wait for their entry (≤ 1 MiB each).
 *
 * ```
 * header ─ x, L, K, g ─▶ extended ─▶ padding ─▶ header
 *        ─ S ──────────▶ sparse map ─▶ payload               (blocks that go on with GNU's old sparse map)
 *        ─ entry ──────▶ payload ──▶ padding ─▶ header        header ─ two zero blocks ─▶ ended (the rest is ignored)
 * ```
 */
export class TarReader {
  readonly #sink: TarSink;
  #state: State = 'header';
  /** Bytes taken so far. */
  #offset = 0;
  readonly #block = Buffer.alloc(BLOCK);
  #filled = 0;
  /** Bytes of payload, extended header or padding that are still to come. */
  #left = 0;
  #padding = 0;
  #zeroBlocks = 0;
  #entry: TarEntry | undefined;
  /** A sparse entry whose map goes on behind its header. */
  #mapped: TarHeader | undefined;
  #extended: { typeFlag: string; offset: number; bytes: Buffer; filled: number } | undefined;
  /** What was read for the next entry. */
  #headerOffset: number | undefined;
  #records = NO_RECORDS;
  #longName: ByteString | undefined;
  #longLink: ByteString | undefined;
  #globals = NO_RECORDS;

  constructor(sink: TarSink) {
    this.#sink = sink;
  }

  /** @throws {CodedError} `LAYER_INVALID`; the reader is of no use afterwards */
  push(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length && this.#state !== 'ended') {
      const rest = chunk.subarray(at);
      const taken =
        this.#state === 'header' || this.#state === 'sparse map'
          ? this.#takeHeader(rest)
          : this.#state === 'extended'
            ? this.#takeExtended(rest)
            : this.#takeBody(rest);
      at += taken;
      this.#offset += taken;
      this.#settle();
    }
  }

  /**
   * Passes over what is left of a payload and its padding, at most `most` bytes, as if they had been pushed.
   * @returns how many: the next chunk begins behind them
   */
  skip(most: number): number {
    let skipped = 0;
    while ((this.#state === 'payload' || this.#state === 'padding') && skipped < most) {
      const step = Math.min(this.#left, most - skipped);
      this.#left -= step;
      this.#offset += step;
      skipped += step;
      this.#settle();
    }
    return skipped;
  }

  /**
   * Ends the archive. The two zero blocks and the last padding may be missing, as other readers allow.
   * @throws {CodedError} `LAYER_INVALID` where a header or a payload is cut
   */
  end(): void {
    const isCut =
      this.#state === 'extended' ||
      this.#state === 'sparse map' ||
      this.#state === 'payload' ||
      (this.#state === 'header' && (this.#filled > 0 || this.#headerOffset !== undefined));
    this.#state = 'ended';
    if (isCut)
      throw new CodedError('LAYER_INVALID', {
        message: 'tar archive is cut short',
        detail: { offset: this.#offset },
      });
  }

  /** Leaves states that need no further byte. */
  #settle(): void {
    if (this.#state === 'payload' && this.#left === 0) {
      this.#state = 'padding';
      this.#left = this.#padding;
    }
    if (this.#state === 'padding' && this.#left === 0) this.#state = 'header';
  }

  #takeBody(rest: Uint8Array): number {
    const take = Math.min(this.#left, rest.length);
    if (this.#state === 'payload') this.#sink.payload?.(rest.subarray(0, take), this.#entry!);
    this.#left -= take;
    return take;
  }

  #takeHeader(rest: Uint8Array): number {
    const take = Math.min(BLOCK - this.#filled, rest.length);
    this.#block.set(rest.subarray(0, take), this.#filled);
    this.#filled += take;
    if (this.#filled === BLOCK) {
      this.#filled = 0;
      const offset = this.#offset + take - BLOCK;
      if (this.#state === 'header') this.#header(offset);
      else if (this.#block[MAP_GOES_ON] === 0) this.#beginEntry(this.#mapped!, offset);
      else if (offset - this.#headerOffset! > MAX_SPARSE_MAP_BYTES) this.#invalid('sparse map', offset);
    }
    return take;
  }

  #header(offset: number): void {
    if (isZeroBlock(this.#block)) {
      this.#zeroBlocks += 1;
      if (this.#zeroBlocks === 2) this.#state = 'ended';
      return;
    }
    if (this.#zeroBlocks === 1) this.#invalid('a header after a zero block', offset);
    const header = parseHeader(this.#block, offset);
    if (header.size < 0 || header.size > Number.MAX_SAFE_INTEGER - offset - 2 * BLOCK)
      this.#invalid('size', offset);
    if ('xgLK'.includes(header.typeFlag)) this.#beginExtended(header, offset);
    else if (header.typeFlag === 'S' && this.#block[HEADER_MAP_GOES_ON] !== 0) {
      this.#headerOffset ??= offset;
      this.#mapped = header;
      this.#state = 'sparse map';
    } else this.#beginEntry(header, offset);
  }

  #beginExtended(header: TarHeader, offset: number): void {
    if (header.size > MAX_EXTENDED_BYTES) this.#invalid('extended header is larger than 1 MiB', offset);
    if (header.typeFlag === 'g') this.#forget();
    else this.#headerOffset ??= offset;
    if (offset - (this.#headerOffset ?? offset) > MAX_BEFORE_ENTRY_BYTES)
      this.#invalid('more than 4 MiB of extended headers before an entry', offset);
    this.#extended = {
      typeFlag: header.typeFlag,
      offset: offset + BLOCK,
      bytes: Buffer.alloc(header.size),
      filled: 0,
    };
    this.#padding = paddingOf(header.size);
    this.#state = 'extended';
    if (header.size === 0) this.#endExtended();
  }

  #takeExtended(rest: Uint8Array): number {
    const extended = this.#extended!;
    const take = Math.min(extended.bytes.length - extended.filled, rest.length);
    extended.bytes.set(rest.subarray(0, take), extended.filled);
    extended.filled += take;
    if (extended.filled === extended.bytes.length) this.#endExtended();
    return take;
  }

  #endExtended(): void {
    const { typeFlag, offset, bytes } = this.#extended!;
    const records = (): PaxRecords => keptOnly(parsePax(bytes, offset), bytes);
    if (typeFlag === 'x') this.#records = records();
    else if (typeFlag === 'g') this.#setGlobals(records(), offset);
    else if (typeFlag === 'L') this.#longName = untilNul(bytes);
    else this.#longLink = untilNul(bytes);
    this.#extended = undefined;
    this.#state = 'padding';
    this.#left = this.#padding;
  }

  #setGlobals(records: PaxRecords, offset: number): void {
    const globals = new Map([...merged(this.#globals, records)].filter(([, value]) => value.length > 0));
    let bytes = 0;
    for (const [key, value] of globals) bytes += key.length + value.length;
    if (bytes > MAX_EXTENDED_BYTES) this.#invalid('global headers are larger than 1 MiB', offset);
    if (globals.size > MAX_GLOBALS) this.#invalid(`more than ${MAX_GLOBALS} global records`, offset);
    this.#globals = globals;
  }

  #beginEntry(header: TarHeader, offset: number): void {
    const entry = this.#entryOf(header, offset);
    this.#forget();
    this.#entry = entry;
    this.#state = 'payload';
    this.#left = entry.size;
    this.#padding = paddingOf(entry.size);
    this.#sink.entry(entry);
  }

  /** Lets go of what was read for the next entry. */
  #forget(): void {
    this.#headerOffset = undefined;
    this.#records = NO_RECORDS;
    this.#longName = undefined;
    this.#longLink = undefined;
  }

  #entryOf(header: TarHeader, offset: number): TarEntry {
    const own = this.#records;
    const records = this.#globals.size === 0 ? own : merged(this.#globals, own);
    const text = (key: string): ByteString | undefined => {
      const value = records.get(key as ByteString);
      return value === undefined || value.length === 0 ? undefined : byteString(value);
    };
    const number = (key: string, otherwise: number): number => {
      const value = records.get(key as ByteString);
      if (value === undefined || value.length === 0) return otherwise;
      return paxNumber(value) ?? this.#invalid(key, offset);
    };
    const name = this.#longName ?? text('path') ?? header.name;
    const type = typeOf(header.typeFlag, name);
    const hasPayload = type === 'file' || type === 'other';
    const size = hasPayload ? number('size', header.size) : 0;
    if (size < 0 || size > Number.MAX_SAFE_INTEGER - offset - 2 * BLOCK) this.#invalid('size', offset);
    const time = this.#timeOf(records, header, offset);
    return {
      type,
      typeFlag: header.typeFlag,
      name,
      linkName: this.#longLink ?? text('linkpath') ?? header.linkName,
      mode: header.mode,
      uid: number('uid', header.uid),
      gid: number('gid', header.gid),
      userName: text('uname') ?? header.userName,
      groupName: text('gname') ?? header.groupName,
      mtimeSec: time.sec,
      mtimeNsec: time.nsec,
      devMajor: type === 'char' || type === 'block' ? header.devMajor : 0,
      devMinor: type === 'char' || type === 'block' ? header.devMinor : 0,
      xattrs: xattrsOf(records),
      headerOffset: this.#headerOffset ?? offset,
      payloadOffset: offset + BLOCK,
      size,
      sparse: header.typeFlag === 'S' || isSparse(records),
      usesGlobals: [...this.#globals.keys()].some((key) => key !== 'comment' && !own.has(key)),
      isPlain: isPlainHeader(this.#block, type, name, own),
    };
  }

  #timeOf(records: PaxRecords, header: TarHeader, offset: number): { sec: number; nsec: number } {
    const value = records.get('mtime' as ByteString);
    if (value === undefined || value.length === 0) return { sec: header.mtimeSec, nsec: 0 };
    return paxTime(value) ?? this.#invalid('mtime', offset);
  }

  #invalid(field: string, offset: number): never {
    this.#state = 'ended';
    throw new CodedError('LAYER_INVALID', {
      message: `tar header is not valid: ${field}`,
      detail: { offset, field },
    });
  }
}

/** The entries of a whole archive that is in memory. @throws {CodedError} `LAYER_INVALID` */
export function tarEntries(archive: Uint8Array): TarEntry[] {
  const entries: TarEntry[] = [];
  const reader = new TarReader({ entry: (entry) => void entries.push(entry) });
  reader.push(archive);
  reader.end();
  return entries;
}

function merged(under: PaxRecords, over: PaxRecords): PaxRecords {
  return under.size === 0 ? over : new Map([...under, ...over]);
}

function paddingOf(size: number): number {
  return (BLOCK - (size % BLOCK)) % BLOCK;
}

function untilNul(bytes: Uint8Array): ByteString {
  const end = bytes.indexOf(0);
  return byteString(end < 0 ? bytes : bytes.subarray(0, end));
}
