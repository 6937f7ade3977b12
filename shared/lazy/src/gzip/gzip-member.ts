import { crc32 } from 'node:zlib';
import { CodedError } from '@sepia/base/errors';

const MAX_HEADER_BYTES = 1024 * 1024;
const HAS_HEADER_CRC = 2;
const HAS_EXTRA = 4;
const HAS_NAME = 8;
const HAS_COMMENT = 16;

/**
 * Length of the gzip member header that `bytes` begin with (RFC 1952, 2.3), or undefined where it is not all there yet.
 * @throws {CodedError} `LAYER_INVALID` where it is none
 */
export function memberHeaderLength(bytes: Uint8Array): number | undefined {
  const [first, second, method, flags] = bytes;
  if ((first ?? 0x1f) !== 0x1f || (second ?? 0x8b) !== 0x8b || (method ?? 8) !== 8)
    invalid('no member begins here');
  if (((flags ?? 0) & 0xe0) !== 0) invalid('unknown flags of a member');
  if (bytes.length > MAX_HEADER_BYTES) bytes = bytes.subarray(0, MAX_HEADER_BYTES);
  if (bytes.length < 10) return undefined;
  let at = 10;
  if ((flags! & HAS_EXTRA) !== 0) {
    if (bytes.length < 12) return undefined;
    at = 12 + bytes[10]! + 256 * bytes[11]!;
  }
  for (const flag of [HAS_NAME, HAS_COMMENT]) {
    if ((flags! & flag) === 0) continue;
    const end = bytes.indexOf(0, at);
    if (end < 0 && bytes.length === MAX_HEADER_BYTES) invalid('header of a member is longer than 1 MiB');
    if (end < 0 || at > bytes.length) return undefined;
    at = end + 1;
  }
  if ((flags! & HAS_HEADER_CRC) === 0) return at <= bytes.length ? at : undefined;
  if (at + 2 > bytes.length) return undefined;
  const sum = bytes[at]! + 256 * bytes[at + 1]!;
  if (sum !== (crc32(bytes.subarray(0, at)) & 0xffff)) invalid('checksum of a member header');
  return at + 2;
}

function invalid(what: string): never {
  throw new CodedError('LAYER_INVALID', { message: `gzip data is not valid: ${what}`, detail: {} });
}
