import { setImmediate } from 'node:timers/promises';
import { crc32, createInflateRaw, inflateRawSync } from 'node:zlib';
import { CodedError } from '@sepia/base/errors';

/** Bytes of a blob by position: exactly `length`, or it rejects. */
export type ReadAt = (offset: number, length: number) => Promise<Uint8Array>;
/** Takes uncompressed bytes in order; a view that is only good until it returns or settles. */
export type TakeRaw = (bytes: Uint8Array) => void | Promise<void>;

/** Stretches up to this length are read at once and each member inflated in one call, if it is not longer than below. */
const AT_ONCE_BYTES = 8 * 1024 * 1024;
const AT_ONCE_RAW_BYTES = 32 * 1024 * 1024;
const READ_BYTES = 1024 * 1024;
/** After so many bytes whatever else waits in this process has its turn. */
const TURN_BYTES = 1024 * 1024;
/** What a member takes beside its bytes, as bytes: it may have none. */
const MEMBER_BYTES = 16 * 1024;
const [FHCRC, FEXTRA, FNAME, FCOMMENT] = [2, 4, 8, 16];
/** Extra field, name and comment of a member header together. */
const MAX_HEADER_BYTES = 128 * 1024;
const TRAILER_BYTES = 8;

/**
 * Inflates the gzip members that fill `[from, to)` of a blob exactly: header, CRC-32 and length of each are checked, and
 * no byte may be left between or behind them. One member at a time is in memory, and of a long one a part: memory is
 * bounded whatever their size and number, and nothing else in the process waits long for it: a few megabytes may be
 * thousands of times as long, or as many members. What stands before a damaged member may have been taken already.
 * @throws {CodedError} `LAYER_INVALID` with the offset of the member
 */
export async function inflateMembers(read: ReadAt, from: number, to: number, take: TakeRaw): Promise<void> {
  let at = from;
  if (to - from > AT_ONCE_BYTES) {
    while (at < to) at = await oneMember(read, at, to, take);
    return;
  }
  const bytes = await read(from, to - from);
  let since = 0;
  const note = async (length: number): Promise<void> => {
    since += length;
    if (since < TURN_BYTES) return;
    since = 0;
    await setImmediate();
  };
  const readAgain: ReadAt = async (offset, length) => bytes.subarray(offset - from, offset - from + length);
  while (at < to) {
    const member = atOnce(bytes.subarray(at - from), at);
    if (member === undefined) at = await oneMember(readAgain, at, to, take);
    else {
      for (let start = 0; start < member.raw.length; start += TURN_BYTES) {
        const part = member.raw.subarray(start, start + TURN_BYTES);
        await take(part);
        await note(part.length);
      }
      at += member.length;
      await note(MEMBER_BYTES);
    }
  }
}

/** The member that `bytes`, which stand at `offset`, begin with, and its length; undefined if it is too long for one call. */
function atOnce(bytes: Uint8Array, offset: number): { raw: Uint8Array; length: number } | undefined {
  const body = headerBytes(bytes, offset);
  const inflated = inflateOnce(bytes.subarray(body), offset);
  if (inflated === undefined) return undefined;
  const { raw } = inflated;
  const end = body + inflated.consumed;
  checkTrailer(bytes.subarray(end, end + TRAILER_BYTES), crc32(raw), raw.length, offset);
  return { raw, length: end + TRAILER_BYTES };
}

function inflateOnce(body: Uint8Array, offset: number): { raw: Uint8Array; consumed: number } | undefined {
  try {
    const { buffer, engine } = inflateRawSync(body, {
      info: true,
      maxOutputLength: AT_ONCE_RAW_BYTES,
    }) as unknown as {
      buffer: Buffer;
      engine: { bytesWritten: number };
    };
    return { raw: buffer, consumed: engine.bytesWritten };
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ERR_BUFFER_TOO_LARGE') return undefined;
    if (code?.startsWith('Z_') !== true) throw cause;
    throw invalid(`is damaged (${code})`, offset, cause);
  }
}

async function oneMember(read: ReadAt, from: number, to: number, take: TakeRaw): Promise<number> {
  const head = await read(from, Math.min(MAX_HEADER_BYTES, to - from));
  const body = from + headerBytes(head, from);
  const inflate = createInflateRaw();
  let crc = 0;
  let length = 0;
  const feed = async (): Promise<void> => {
    for (let at = body; at < to && !inflate.readableEnded && !inflate.destroyed; at += READ_BYTES) {
      const chunk = await read(at, Math.min(READ_BYTES, to - at));
      if (!inflate.write(chunk)) await drained(inflate);
    }
    inflate.end();
  };
  const fed = feed();
  // Whatever goes wrong there destroys the stream or shows in the length; it is awaited below.
  fed.catch((error: unknown) => void inflate.destroy(error as Error));
  try {
    for await (const raw of inflate as AsyncIterable<Buffer>) {
      crc = crc32(raw, crc);
      length += raw.length;
      await take(raw);
    }
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code?.startsWith('Z_') !== true) throw cause;
    throw invalid(`is damaged (${code})`, from, cause);
  }
  await fed;
  const end = body + inflate.bytesWritten;
  if (end + TRAILER_BYTES > to) throw invalid('is cut short', from);
  checkTrailer(await read(end, TRAILER_BYTES), crc, length, from);
  return end + TRAILER_BYTES;
}

async function drained(stream: ReturnType<typeof createInflateRaw>): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  for (const event of ['drain', 'end', 'close']) stream.once(event, resolve);
  await promise;
  for (const event of ['drain', 'end', 'close']) stream.off(event, resolve);
}

/** Length of the member header at the start of `bytes` (RFC 1952, 2.3). */
function headerBytes(bytes: Uint8Array, offset: number): number {
  if (bytes.length < 10 + TRAILER_BYTES || bytes[0] !== 0x1f || bytes[1] !== 0x8b || bytes[2] !== 8)
    throw invalid('has no header', offset);
  const flags = bytes[3]!;
  if ((flags & 0xe0) !== 0) throw invalid('has unknown flags', offset);
  let at = 10;
  if ((flags & FEXTRA!) !== 0) at += 2 + (bytes[at]! | (bytes[at + 1]! << 8));
  for (const flag of [FNAME!, FCOMMENT!]) {
    if ((flags & flag) === 0) continue;
    const end = bytes.indexOf(0, at);
    if (end < 0) throw invalid('has a header without an end', offset);
    at = end + 1;
  }
  if ((flags & FHCRC!) !== 0) at += 2;
  if (at + TRAILER_BYTES > bytes.length) throw invalid('is cut short', offset);
  return at;
}

function checkTrailer(trailer: Uint8Array, crc: number, length: number, offset: number): void {
  if (trailer.length < TRAILER_BYTES) throw invalid('is cut short', offset);
  const view = new DataView(trailer.buffer, trailer.byteOffset, TRAILER_BYTES);
  if (view.getUint32(0, true) !== crc >>> 0) throw invalid('does not match its CRC-32', offset);
  if (view.getUint32(4, true) !== length % 2 ** 32) throw invalid('does not match its length', offset);
}

function invalid(what: string, offset: number, cause?: unknown): CodedError {
  return new CodedError('LAYER_INVALID', {
    message: `the gzip member at ${offset} ${what}`,
    detail: { offset },
    ...(cause === undefined ? {} : { cause }),
  });
}
