import { createHash } from 'node:crypto';

/** XOR of the first 8 bytes of SHA-256 of each digest, as 16 hex: equal for equal sets, in any order. */
export function setHash(digests: Iterable<string>): string {
  let sum = 0n;
  for (const digest of digests) sum ^= createHash('sha256').update(digest).digest().readBigUInt64BE(0);
  return sum.toString(16).padStart(16, '0');
}
