import { hash } from 'node:crypto';

/** What a digest brings to the hash of a set: the first 8 bytes of SHA-256 of its text. */
export function digestHash(digest: string): bigint {
  return hash('sha256', digest, 'buffer').readBigUInt64BE(0);
}

/** The hash of a set of digests as messages carry it: XOR of their {@link digestHash}, as 16 hex; equal for equal sets, in any order. */
export function setHash(digests: Iterable<string>): string {
  let sum = 0n;
  for (const digest of digests) sum ^= digestHash(digest);
  return sum.toString(16).padStart(16, '0');
}
