import { createHash } from 'node:crypto';
import { CodedError } from '@sepia/base/errors';
import { resumeGzip } from '../gzip/resume.ts';
import { resumeZstd } from '../zstd/zstd-spans.ts';
import { type LayerHead, type LayerIndex, readWindow } from './layer-index.ts';
import { unpackChunks } from './span-chunks.ts';

/**
 * Decompresses one span and checks it: bytes come back only where their SHA-256 is the index's.
 * @param compressed the blob's bytes of `compressedRange`
 * @param storedWindow the index's bytes of the span's window; empty where it has none
 * @throws {CodedError} `DIGEST_MISMATCH`, `LAYER_INVALID` (bytes of the blob are wrong), `INDEX_INVALID` (the window is)
 */
export async function readSpan(
  index: LayerHead,
  spanIndex: number,
  compressed: Buffer,
  storedWindow: Buffer,
): Promise<Buffer> {
  const span = index.spans[spanIndex]!;
  const bytes = await decompress(index, spanIndex, compressed, storedWindow);
  const found = createHash('sha256').update(bytes).digest();
  if (!found.equals(span.sha256))
    throw new CodedError('DIGEST_MISMATCH', {
      detail: {
        layer: index.layer,
        span: spanIndex,
        expected: span.sha256.toString('hex'),
        found: found.toString('hex'),
      },
    });
  return bytes;
}

async function decompress(
  index: LayerHead,
  spanIndex: number,
  compressed: Buffer,
  storedWindow: Buffer,
): Promise<Buffer> {
  const span = index.spans[spanIndex]!;
  if (index.compression === 'none') return compressed;
  if (index.compression === 'zstd') return await resumeZstd(compressed, span.length);
  const window = readWindow(span, storedWindow);
  if (index.compression === 'chunks')
    return unpackChunks(compressed, window, {
      compressor: index.sources[span.packed!.source]!.compressor,
      sizeBytes: span.length,
    });
  return await resumeGzip({ compressedBit: span.compressedBit, window }, compressed, span.length);
}

/** The spans that cover `[offset, offset + length)` of the uncompressed layer: first and last index. */
export function spansOf(
  index: Pick<LayerIndex, 'spans'>,
  offset: number,
  length: number,
): { first: number; last: number } {
  const first = spanAt(index, offset);
  return { first, last: length <= 1 ? first : spanAt(index, offset + length - 1) };
}

function spanAt(index: Pick<LayerIndex, 'spans'>, offset: number): number {
  let low = 0;
  let high = index.spans.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (index.spans[middle]!.offset <= offset) low = middle;
    else high = middle - 1;
  }
  return low;
}
