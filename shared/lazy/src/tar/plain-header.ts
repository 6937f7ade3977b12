import type { ByteString } from './byte-string.ts';
import { numberOf } from './header.ts';
import type { PaxRecords } from './pax.ts';
import type { TarEntryType } from './tar-entry.ts';

const SIZE = [124, 136] as const;
const MODE = [100, 108] as const;
const DEVICE = [329, 345] as const;
/** GNU headers have times here and STAR's; ustar's prefix ends before STAR's magic. */
const AFTER_DEVICE = [345, 512] as const;
/** Records of times that tars have and images do not need. */
const TIMES = ['atime', 'ctime'] as ByteString[];

/**
 * True for a header that every reader takes the same way and that holds nothing beyond the fields of a `TarEntry`: no type
 * bits in the mode, no further times, no device of what is none, no size of what has no content, no old type flag, no file
 * whose name ends with a slash (a directory to Go's `archive/tar`).
 */
export function isPlainHeader(
  block: Uint8Array,
  type: TarEntryType,
  name: ByteString,
  own: PaxRecords,
): boolean {
  const typeFlag = String.fromCharCode(block[156]!);
  if (!/[0-6]/.test(typeFlag) || (type === 'file' && name.endsWith('/'))) return false;
  if (TIMES.some((key) => own.has(key))) return false;
  if (numberAt(block, MODE) > 0o7777 || (type !== 'file' && numberAt(block, SIZE) !== 0)) return false;
  const magic = Buffer.from(block.buffer, block.byteOffset + 257, 8).toString('latin1');
  const isUstar = magic.startsWith('ustar\0');
  if (!isUstar && magic !== 'ustar  \0') return true;
  if (type !== 'char' && type !== 'block' && !isEmpty(block.subarray(...DEVICE))) return false;
  if (isUstar) return Buffer.from(block.buffer, block.byteOffset + 508, 4).toString('latin1') !== 'tar\0';
  return block.subarray(...AFTER_DEVICE).every((byte) => byte === 0);
}

function numberAt(block: Uint8Array, [start, end]: readonly [number, number]): number {
  return numberOf(block.subarray(start, end)) ?? Number.NaN;
}

/** Two numbers that are nothing: zeros, in any of the ways that writers have. */
function isEmpty(numbers: Uint8Array): boolean {
  return numbers.every((byte) => byte === 0 || byte === 0x20 || byte === 0x30);
}
