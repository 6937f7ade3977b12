import { CodedError } from '@sepia/base/errors';
import { type ByteString, byteString } from './byte-string.ts';

/** Records of an extended header: keyword, value. An empty value takes the keyword back. */
export type PaxRecords = ReadonlyMap<ByteString, Uint8Array>;

const XATTR = 'SCHILY.xattr.';
const NEWLINE = 0x0a;
const SPACE = 0x20;
const EQUALS = 0x3d;

/**
 * Parses `<length> <keyword>=<value>\n` records (POSIX.1-2017 "pax Extended Header"). Values are views into `bytes`.
 * @param offset where the header's content is, for the error
 * @throws {CodedError} `LAYER_INVALID`
 */
export function parsePax(bytes: Uint8Array, offset: number): PaxRecords {
  const records = new Map<ByteString, Uint8Array>();
  let at = 0;
  while (at < bytes.length) {
    const space = bytes.indexOf(SPACE, at);
    const digits = space < 0 || space - at > 10 ? '' : byteString(bytes.subarray(at, space));
    const length = /^[0-9]+$/.test(digits) ? Number(digits) : 0;
    const end = at + length;
    const equals = bytes.indexOf(EQUALS, space + 1);
    const isWhole = space < end && end <= bytes.length && bytes[end - 1] === NEWLINE;
    if (!isWhole || equals < 0 || equals >= end - 1 || equals === space + 1) {
      throw new CodedError('LAYER_INVALID', {
        message: 'extended tar header is not valid',
        detail: { offset: offset + at },
      });
    }
    records.set(byteString(bytes.subarray(space + 1, equals)), bytes.subarray(equals + 1, end - 1));
    at = end;
  }
  return records;
}

/**
 * Records whose attributes keep little else in memory: an entry has views of them, and beside them a header may be full of
 * what nobody keeps. Where that is most of it they are copied.
 */
export function keptOnly(records: PaxRecords, header: Uint8Array): PaxRecords {
  const xattrs = xattrsOf(records);
  let keptBytes = 0;
  for (const value of xattrs.values()) keptBytes += value.length;
  if (xattrs.size === 0 || keptBytes * 2 >= header.length) return records;
  return new Map(
    [...records].map(([key, value]) => [key, key.startsWith(XATTR) ? new Uint8Array(value) : value]),
  );
}

/** What most entries have: one for all of them, for a layer may have a million. */
const NO_XATTRS: ReadonlyMap<ByteString, Uint8Array> = new Map();

/** The extended attributes among records, without those that are taken back by an empty keyword. */
export function xattrsOf(records: PaxRecords): ReadonlyMap<ByteString, Uint8Array> {
  if (records.size === 0) return NO_XATTRS;
  const xattrs = new Map<ByteString, Uint8Array>();
  for (const [key, value] of records) {
    if (key.startsWith(XATTR) && key.length > XATTR.length)
      xattrs.set(key.slice(XATTR.length) as ByteString, value);
  }
  return xattrs;
}

/** True if the records describe a sparse file in one of GNU tar's three PAX forms. */
export function isSparse(records: PaxRecords): boolean {
  for (const key of records.keys()) if (key.startsWith('GNU.sparse.')) return true;
  return false;
}

/** A whole number, or undefined where the value is none or does not fit a safe integer. */
export function paxNumber(value: Uint8Array): number | undefined {
  const text = byteString(value);
  const number = /^-?[0-9]{1,20}$/.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(number) ? number : undefined;
}

/** A decimal time as whole seconds (rounded down) and nanoseconds; digits after the ninth are cut. */
export function paxTime(value: Uint8Array): { sec: number; nsec: number } | undefined {
  const match = /^(-?)([0-9]{1,15})(?:\.([0-9]*))?$/.exec(byteString(value));
  if (match === null) return undefined;
  const sec = Number(match[2]);
  const nsec = Number((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
  if (match[1] === '') return { sec, nsec };
  return nsec === 0 ? { sec: sec === 0 ? 0 : -sec, nsec: 0 } : { sec: -sec - 1, nsec: 1_000_000_000 - nsec };
}
