import { CodedError } from '@sepia/base/errors';
import { type ByteString, byteString } from './byte-string.ts';
import type { TarEntryType } from './tar-entry.ts';

/** Bytes of a header; content is filled up to a multiple (POSIX pax, "ustar Interchange Format"). */
export const BLOCK = 512;

/** The fields of one 512-byte header block, before extended headers are applied. */
export interface TarHeader {
  readonly typeFlag: string;
  readonly name: ByteString;
  readonly linkName: ByteString;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtimeSec: number;
  readonly userName: ByteString;
  readonly groupName: ByteString;
  readonly devMajor: number;
  readonly devMinor: number;
}

const TYPES: Readonly<Record<string, TarEntryType>> = {
  '0': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'char',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
};

/** What a type flag means; the old `\0` is a directory where the name ends with `/`. */
export function typeOf(typeFlag: string, name: ByteString): TarEntryType {
  if (typeFlag === '\0') return name.endsWith('/') ? 'directory' : 'file';
  return TYPES[typeFlag] ?? 'other';
}

/** True if a block has only zeros: two of them end an archive. */
export function isZeroBlock(block: Uint8Array): boolean {
  return block.every((byte) => byte === 0);
}

/**
 * Reads a header block: USTAR, GNU (also with a USTAR prefix, as old writers made it), STAR and version 7.
 * Numbers are octal or base-256. Source: POSIX.1-2017 "ustar Interchange Format", GNU tar manual "Basic Tar Format".
 * @param offset where the block is, for the error
 * @throws {CodedError} `LAYER_INVALID`
 */
export function parseHeader(block: Uint8Array, offset: number): TarHeader {
  const invalid = (field: string): never => {
    throw new CodedError('LAYER_INVALID', {
      message: `tar header is not valid: ${field}`,
      detail: { offset, field },
    });
  };
  const number = (start: number, length: number, field: string): number =>
    numberOf(block.subarray(start, start + length)) ?? invalid(field);
  const sum = numberOf(block.subarray(148, 156));
  if (sum === undefined || !hasSum(block, sum)) invalid('checksum');
  const magic = byteString(block.subarray(257, 265));
  const isUstar = magic.startsWith('ustar\0');
  const isGnu = magic === 'ustar  \0';
  const prefix = isUstar || isGnu ? prefixOf(block, isUstar) : '';
  const name = textField(block, 0, 100);
  return {
    typeFlag: String.fromCharCode(block[156]!),
    name: (prefix === '' ? name : `${prefix}/${name}`) as ByteString,
    linkName: textField(block, 157, 100),
    mode: number(100, 8, 'mode') & 0o7777,
    uid: number(108, 8, 'uid'),
    gid: number(116, 8, 'gid'),
    size: number(124, 12, 'size'),
    mtimeSec: number(136, 12, 'mtime'),
    userName: isUstar || isGnu ? textField(block, 265, 32) : ('' as ByteString),
    groupName: isUstar || isGnu ? textField(block, 297, 32) : ('' as ByteString),
    devMajor: isUstar || isGnu ? number(329, 8, 'devmajor') : 0,
    devMinor: isUstar || isGnu ? number(337, 8, 'devminor') : 0,
  };
}

/**
 * A numeric field: octal digits between spaces and NULs (empty is 0), or base-256 with sign where the first bit is set.
 * @returns undefined where it is neither, or does not fit a safe integer
 */
export function numberOf(field: Uint8Array): number | undefined {
  const first = field[0]!;
  if ((first & 0x80) !== 0) return base256(field);
  const text = byteString(field)
    .replace(/^[ \0]+/, '')
    .replace(/[ \0]+$/, '')
    .replace(/\0.*$/s, '');
  if (text === '') return 0;
  return /^[0-7]+$/.test(text) ? safe(Number.parseInt(text, 8)) : undefined;
}

function base256(field: Uint8Array): number | undefined {
  const negative = (field[0]! & 0x40) !== 0;
  const flip = negative ? 0xff : 0;
  let value = 0;
  for (let index = 0; index < field.length; index++) {
    const byte = (index === 0 ? field[0]! & 0x7f : field[index]!) ^ (index === 0 ? flip & 0x7f : flip);
    value = value * 256 + byte;
    if (value > Number.MAX_SAFE_INTEGER) return undefined;
  }
  return negative ? safe(-1 - value) : value;
}

function safe(value: number): number | undefined {
  return Number.isSafeInteger(value) ? value : undefined;
}

/** The sum counts its own field as spaces; some old writers summed signed bytes. */
function hasSum(block: Uint8Array, expected: number): boolean {
  let unsigned = 0;
  let signed = 0;
  for (let index = 0; index < BLOCK; index++) {
    const byte = index >= 148 && index < 156 ? 0x20 : block[index]!;
    unsigned += byte;
    signed += byte > 127 ? byte - 256 : byte;
  }
  return expected === unsigned || expected === signed;
}

/** STAR's prefix is shorter (its times follow); a GNU header has times there, so only text counts as a prefix. */
function prefixOf(block: Uint8Array, isUstar: boolean): ByteString {
  const isStar = isUstar && byteString(block.subarray(508, 512)) === 'tar\0';
  if (isUstar) return textField(block, 345, isStar ? 131 : 155);
  const isTimes = [345, 357].every((start) => numberOf(block.subarray(start, start + 12)) !== undefined);
  return isTimes ? ('' as ByteString) : textField(block, 345, 155);
}

function textField(block: Uint8Array, start: number, length: number): ByteString {
  const field = block.subarray(start, start + length);
  const end = field.indexOf(0);
  return byteString(end < 0 ? field : field.subarray(0, end));
}
