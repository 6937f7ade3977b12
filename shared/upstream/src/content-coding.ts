import { Duplex, pipeline, Readable } from 'node:stream';
import { createBrotliDecompress, createInflate, createUnzip } from 'node:zlib';
import { isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { createZstdFrames } from '@sepia/base/zstd/zstd-stream';
import { type Answer, header } from './exchange.ts';

/** Decoders by the names of RFC 9110, 8.4.1, and zstd of RFC 8878, of all its frames. */
const DECODERS = new Map<string, () => Duplex>([
  ['gzip', createUnzip],
  ['x-gzip', createUnzip],
  ['deflate', createInflate],
  ['br', createBrotliDecompress],
  ['zstd', zstdDecoder],
]);

/**
 * How a body is encoded though nobody asked for it, if it is one of the known ways. Its length is then not that of the content,
 * and its ranges are none of the content's.
 */
export function codingOf(answer: Pick<Answer, 'headers'>): string | undefined {
  const said = header(answer, 'content-encoding')?.trim().toLowerCase();
  return said !== undefined && DECODERS.has(said) ? said : undefined;
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
  const decoder = DECODERS.get(codingOf(answer) ?? '')?.();
  // Errors reach whoever reads.
  return decoder === undefined ? answer.body : pipeline(answer.body, decoder, () => undefined);
}

/** `bytes` that came with an answer, decoded; as they are where they cannot be, or would be more than `limitBytes`. */
export async function decodedBytes(
  answer: Pick<Answer, 'headers'>,
  bytes: Buffer,
  limitBytes: number,
): Promise<Buffer> {
  const decoder = DECODERS.get(codingOf(answer) ?? '')?.();
  if (decoder === undefined) return bytes;
  const chunks: Uint8Array[] = [];
  let found = 0;
  try {
    decoder.end(bytes);
    for await (const chunk of decoder as AsyncIterable<Uint8Array>) {
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
