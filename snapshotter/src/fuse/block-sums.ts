import { crc32 } from 'node:zlib';

/** A block of an image: what its sum is about. */
export const SUM_BLOCK = 4096;

/** CRC-32 of each block of bytes that are whole blocks. */
export function sumsOf(bytes: Uint8Array): Int32Array {
  const sums = new Int32Array(bytes.length / SUM_BLOCK);
  for (let block = 0; block < sums.length; block++) sums[block] = sumAt(bytes, block);
  return sums;
}

/** Blocks of an image whose sums do not fit; `bytes` are those from `offset` on, both of whole blocks. */
export function wrongBlocks(sums: Int32Array, bytes: Uint8Array, offset: number): number[] {
  const first = offset / SUM_BLOCK;
  const wrong: number[] = [];
  for (let block = 0; block * SUM_BLOCK < bytes.length; block++)
    if (sums[first + block] !== sumAt(bytes, block)) wrong.push(first + block);
  return wrong;
}

/** As an Int32Array holds it. */
function sumAt(bytes: Uint8Array, block: number): number {
  return crc32(bytes.subarray(block * SUM_BLOCK, (block + 1) * SUM_BLOCK)) | 0;
}
