import { CodedError } from '@sepia/base/errors';
import { type ReadCompressor, unpackExactly } from '../pack/unpack.ts';
import { invalidIndex } from './byte-reader.ts';

/** Lengths of a chunk; where they are the same it is not compressed. */
interface Cut {
  readonly packedBytes: number;
  readonly sizeBytes: number;
}

/** Compressed and uncompressed length of a chunk, 32 bits each. */
const CUT_BYTES = 8;
/** Chunks of one span: their cuts fit into the window of one. */
export const MAX_SPAN_CHUNKS = 4096;

/** How a span's bytes are cut into chunks, as it is stored in place of a window. */
export function encodeCuts(chunks: readonly Cut[]): Buffer {
  const cuts = Buffer.alloc(chunks.length * CUT_BYTES);
  for (const [index, { packedBytes, sizeBytes }] of chunks.entries()) {
    cuts.writeUInt32LE(packedBytes, index * CUT_BYTES);
    cuts.writeUInt32LE(sizeBytes, index * CUT_BYTES + 4);
  }
  return cuts;
}

/**
 * The content of a span that is chunks of a data blob, one behind the other; those that are as long as their content are
 * not compressed.
 * @throws {CodedError} `INDEX_INVALID` where the cuts do not fill the bytes, or not `sizeBytes`, `LAYER_INVALID` for a chunk that is broken
 */
export function unpackChunks(
  packed: Buffer,
  cuts: Buffer,
  { compressor, sizeBytes }: { readonly compressor: ReadCompressor; readonly sizeBytes: number },
): Buffer {
  if (cuts.length % CUT_BYTES !== 0) invalidIndex('cuts of a span');
  const parts: Buffer[] = [];
  let at = 0;
  let left = sizeBytes;
  for (let cut = 0; cut < cuts.length; cut += CUT_BYTES) {
    const place = { packedBytes: cuts.readUInt32LE(cut), sizeBytes: cuts.readUInt32LE(cut + 4) };
    const how = place.packedBytes === place.sizeBytes ? 'none' : compressor;
    left -= place.sizeBytes;
    if (at + place.packedBytes > packed.length || left < 0) invalidIndex('cuts of a span');
    const raw = unpackExactly(packed.subarray(at, at + place.packedBytes), how, place.sizeBytes);
    if (typeof raw === 'string') throw new CodedError('LAYER_INVALID', { message: `a chunk ${raw}` });
    parts.push(raw);
    at += place.packedBytes;
  }
  if (at !== packed.length || left !== 0) invalidIndex('cuts of a span');
  return Buffer.concat(parts);
}
