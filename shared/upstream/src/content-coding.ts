import { Duplex, pipeline, Readable } from 'node:stream';
import { createBrotliDecompress, createInflate, createInflateRaw, createUnzip } from 'node:zlib';
import { isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { createZstdFrames } from '@sepia/base/zstd/zstd-stream';
import type { Answer } from './exchange.ts';

/** Decoders by the names of RFC 9110, 8.4.1, and zstd of RFC 8878, of all its frames. */
const DECODERS = new Map<string, () => Duplex>([
  ['gzip', createUnzip],
  ['x-gzip', createUnzip],
  ['deflate', deflateDecoder],
  ['br', createBrotliDecompress],
  ['zstd', zstdDecoder],
]);

/** Most codings of one body that are undone. */
const MAX_CODINGS = 3;

/**
 * Content codings of a body, in the order in which they were applied (RFC 9110, 8.4); undefined where there are none, or one
 * that is not known. They are sent though nobody asked for them; `Content-Length` and ranges are then not those of the
 * content.
 */
export function codingOf({ headers }: Pick<Answer, 'headers'>): readonly string[] | undefined {
  const said = [headers['content-encoding'] ?? []].flat().flatMap((one) => one.split(','));
  const codings = said
    .map((one) => one.trim().toLowerCase())
    .filter((one) => one !== '' && one !== 'identity');
  const isKnown = codings.length > 0 && codings.length <= MAX_CODINGS;
  return isKnown && codings.every((one) => DECODERS.has(one)) ? codings : undefined;
}

/** Decoders in the order in which they are to be used: what was put on last comes off first. */
function decodersOf(answer: Pick<Answer, 'headers'>): Duplex[] {
  return (codingOf(answer) ?? []).toReversed().map((one) => DECODERS.get(one)!());
}

/** With the wrapping of zlib, or without it, as some servers send it. */
function deflateDecoder(): Duplex {
  return Duplex.from(async function* (source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    const chunks = source[Symbol.asyncIterator]();
    const first = await chunks.next();
    if (first.done === true) return;
    const rest = { [Symbol.asyncIterator]: () => chunks };
    const whole = async function* (): AsyncGenerator<Buffer> {
      yield first.value;
      yield* rest;
    };
    const isWrapped = (first.value[0]! & 0x0f) === 8;
    const inflate = isWrapped ? createInflate() : createInflateRaw();
    pipeline(Readable.from(whole()), inflate, () => undefined);
    yield* inflate as AsyncIterable<Buffer>;
  });
}

/** Says what is wrong with frames as zlib does: a body that is damaged, not a layer. */
function zstdDecoder(): Duplex {
  return Duplex.from(async function* (source: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    const frames = createZstdFrames();
    pipeline(Readable.from(source), frames, () => undefined);
    try {
      yield* frames as AsyncIterable<Buffer>;
    } catch (error) {
      if (!isCoded(error, 'LAYER_INVALID')) throw error;
      throw Object.assign(new Error((error as Error).message), { code: 'Z_DATA_ERROR' });
    }
  });
}

/** The content of a body, decoded where it is encoded. Ends with an error of zlib where it is not what it says. */
export function contentOf(answer: Pick<Answer, 'headers' | 'body'>): Readable {
  // Errors reach whoever reads.
  return decodersOf(answer).reduce<Readable>(
    (body, decoder) => pipeline(body, decoder, () => undefined),
    answer.body,
  );
}

/** `bytes` that came with an answer, decoded; as they are where they cannot be, or would be more than `limitBytes`. */
export async function decodedBytes(
  answer: Pick<Answer, 'headers'>,
  bytes: Buffer,
  limitBytes: number,
): Promise<Buffer> {
  const [first, ...more] = decodersOf(answer);
  if (first === undefined) return bytes;
  const decoded = more.reduce<Duplex>((body, decoder) => pipeline(body, decoder, () => undefined), first);
  const chunks: Uint8Array[] = [];
  let found = 0;
  try {
    first.end(bytes);
    for await (const chunk of decoded as AsyncIterable<Uint8Array>) {
      found += chunk.length;
      if (found > limitBytes) return bytes;
      chunks.push(chunk);
    }
    return Buffer.concat(chunks, found);
  } catch (error) {
    throwIfBug(error);
    return bytes;
  }
}
