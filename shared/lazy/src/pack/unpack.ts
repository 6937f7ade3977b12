import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { throwIfBug } from '@sepia/base/failure';
import { inflateLz4 } from './lz4-block.ts';

/** How chunks that are written here are compressed, each by itself. */
export const COMPRESSORS = ['none', 'gzip', 'zstd'] as const;
/** How a chunk that is written here is compressed, see {@link COMPRESSORS}. */
export type Compressor = (typeof COMPRESSORS)[number];
/** How chunks that are read are: others write LZ4 blocks, too. */
export const READ_COMPRESSORS = [...COMPRESSORS, 'lz4'] as const;
/** How a chunk that is read is compressed, see {@link READ_COMPRESSORS}. */
export type ReadCompressor = (typeof READ_COMPRESSORS)[number];

/** Exactly `sizeBytes` of what was compressed, or what is wrong with it. */
export function unpackExactly(
  packed: Uint8Array,
  compressor: ReadCompressor,
  sizeBytes: number,
): Buffer | string {
  if (compressor === 'lz4') return inflateLz4(packed, sizeBytes);
  let raw: Buffer;
  try {
    if (compressor === 'none') raw = Buffer.from(packed);
    else if (compressor === 'gzip') raw = gunzipSync(packed, { maxOutputLength: Math.max(1, sizeBytes) });
    else raw = zstdDecompressSync(packed, { maxOutputLength: Math.max(1, sizeBytes) });
  } catch (cause) {
    throwIfBug(cause);
    const { code } = cause as NodeJS.ErrnoException;
    if (code !== 'ERR_BUFFER_TOO_LARGE' && !/^(Z_|ZSTD_)/.test(code ?? '')) throw cause;
    return `cannot be decompressed (${code})`;
  }
  return raw.length === sizeBytes ? raw : `has ${raw.length} bytes, ${sizeBytes} are said`;
}
