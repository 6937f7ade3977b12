/** How a layer's blob may be packed. */
type Compression = 'none' | 'gzip' | 'zstd';

/** Reads the compression from a blob's first four bytes, as container engines do: media types lie. */
export function compressionOf(first: Uint8Array): Compression {
  if (first[0] === 0x1f && first[1] === 0x8b) return 'gzip';
  const magic = first.length < 4 ? 0 : Buffer.from(first.subarray(0, 4)).readUInt32LE(0);
  // A frame of zstd, or one to be skipped before it (RFC 8878, 3.1).
  if (magic === 0xfd2fb528 || (magic & 0xfffffff0) >>> 0 === 0x184d2a50) return 'zstd';
  return 'none';
}
