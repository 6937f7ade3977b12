import { promisify } from 'node:util';
import { constants, gunzip, inflateRaw } from 'node:zlib';
import { CodedError, systemCode } from '@sepia/base/errors';
import { memberHeaderLength } from './gzip-member.ts';

/** Where to begin: a bit of the compressed blob, and what came before it. */
export interface ResumePoint {
  readonly compressedBit: number;
  readonly window: Uint8Array;
}

/**
 * Bits of an empty block with fixed codes, and of one with codes of its own whose only symbol is the end. Sums of 10s
 * and 93s leave every remainder modulo 8, so a stream can be made to begin at any bit of a byte.
 */
const FIXED_EMPTY = '0' + '10' + '0000000';
const DYNAMIC_EMPTY = dynamicEmpty();
const PREFIXES = Array.from({ length: 8 }, (_none, bit) => prefixOf(bit));
const MEMBER_TRAILER = 8;
/** The last block of a span may go on: what comes out behind it. One piece of room: zlib goes to its thread once for each. */
const OVER_BYTES = 64 * 1024;

/**
 * Uncompressed bytes of one span, from the compressed bytes that begin with the byte of its first bit. zlib can only
 * begin at a whole byte; empty blocks put in front move the first bit to its place in a byte (no byte is shifted).
 * @param compressed from byte `floor(compressedBit / 8)` on; what lies beyond the span does no harm
 * @param length bytes of output
 * @throws {CodedError} `LAYER_INVALID` where the bytes are no such data; the caller compares the SHA-256 besides
 */
export async function resumeGzip(
  point: ResumePoint,
  compressed: Uint8Array,
  length: number,
): Promise<Buffer> {
  const bit = point.compressedBit % 8;
  const prefix = PREFIXES[bit]!;
  const input = Buffer.concat([prefix, compressed.subarray(bit === 0 ? 0 : 1)]);
  if (bit !== 0) input[prefix.length - 1]! |= compressed[0]! & ~((1 << bit) - 1);
  const first = await inflateSome(input, point.window, length);
  if (first.output.length >= length) return first.output.subarray(0, length);
  // The member ends inside of the span: the next one follows its trailer.
  const rest = input.subarray(first.inputBytes + MEMBER_TRAILER);
  if (rest.length === 0 || memberHeaderLength(rest) === undefined) throw cutShort();
  const more = await gunzipSome(rest, length - first.output.length);
  if (more.length < length - first.output.length) throw cutShort();
  return Buffer.concat([first.output, more], length);
}

interface Inflated {
  readonly output: Buffer;
  readonly inputBytes: number;
}

async function inflateSome(input: Buffer, window: Uint8Array, length: number): Promise<Inflated> {
  const options = { ...optionsFor(length), info: true };
  const run = promisify(inflateRaw) as unknown as (bytes: Buffer, options: object) => Promise<unknown>;
  const answer = await orInvalid(
    run(input, window.length === 0 ? options : { ...options, dictionary: window }),
  );
  const { buffer, engine } = answer as { buffer: Buffer; engine: { bytesWritten: number } };
  return { output: buffer, inputBytes: engine.bytesWritten };
}

async function gunzipSome(input: Buffer, length: number): Promise<Buffer> {
  const run = promisify(gunzip) as (bytes: Buffer, options: object) => Promise<Buffer>;
  return await orInvalid(run(input, optionsFor(length)));
}

/** Input may reach a little beyond the span: other blocks' first bytes. */
function optionsFor(length: number): { finishFlush: number; chunkSize: number; maxOutputLength: number } {
  return {
    finishFlush: constants.Z_SYNC_FLUSH,
    chunkSize: length + OVER_BYTES,
    maxOutputLength: length + 1024 * 1024,
  };
}

async function orInvalid<T>(answer: Promise<T>): Promise<T> {
  try {
    return await answer;
  } catch (error) {
    const code = systemCode(error);
    if (code?.startsWith('Z_') !== true && code !== 'ERR_BUFFER_TOO_LARGE') throw error;
    throw new CodedError('LAYER_INVALID', {
      message: 'compressed data is not valid',
      detail: { code },
      cause: error,
    });
  }
}

function cutShort(): CodedError {
  return new CodedError('LAYER_INVALID', { message: 'compressed data ends before the span does' });
}

/** Empty blocks of n ≡ bit (mod 8) bits, with room for the first byte of the stream in the last one. */
function prefixOf(bit: number): Buffer {
  let bits = bit % 2 === 1 ? DYNAMIC_EMPTY : '';
  while (bits.length % 8 !== bit) bits += FIXED_EMPTY;
  return packed(bits);
}

/** A block with HLIT 257, HDIST 1 and the lengths 256 × 0, 1, 0: only the end of block has a code. 93 bits. */
function dynamicEmpty(): string {
  const codeLengths = new Map([
    [18, 2],
    [0, 2],
    [1, 1],
  ]);
  const order = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1];
  const lengths = order.map((symbol) => number(codeLengths.get(symbol) ?? 0, 3)).join('');
  // Codes: 1 → 0, 0 → 10, 18 → 11 (first bit first).
  const zeros = `11${number(138 - 11, 7)}11${number(118 - 11, 7)}`;
  return `001${number(0, 5)}${number(0, 5)}${number(order.length - 4, 4)}${lengths}${zeros}0100`;
}

/** A number as bits, lowest first. */
function number(value: number, bits: number): string {
  return value.toString(2).padStart(bits, '0').split('').reverse().join('');
}

function packed(bits: string): Buffer {
  const bytes = Buffer.alloc(Math.ceil(bits.length / 8));
  for (let index = 0; index < bits.length; index++)
    if (bits[index] === '1') bytes[index >> 3]! |= 1 << (index & 7);
  return bytes;
}
