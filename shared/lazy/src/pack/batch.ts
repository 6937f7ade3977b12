import { hash } from 'node:crypto';
import { constants, gzipSync, zstdCompressSync } from 'node:zlib';
import { joined } from '../joined.ts';

/** `none`: only hashed. */
export type PackFormat = 'gzip' | 'zstd' | 'none';

/** Uncompressed bytes that become a row of independent gzip members or zstd frames. */
export interface PackJob {
  readonly raw: Uint8Array<ArrayBuffer>;
  /** Lengths of the members, bytes; their sum is the length of `raw`. */
  readonly members: readonly number[];
  /** Parts of `raw` whose SHA-256 is wanted: start and length. */
  readonly digests: readonly (readonly [start: number, length: number])[];
  readonly format: PackFormat;
  /** gzip 0–9, zstd 1–22. */
  readonly level: number;
}

/** What became of a {@link PackJob}. The bytes are the receiver's. */
export interface Packed {
  /** The bytes that were given. */
  readonly raw: Uint8Array<ArrayBuffer>;
  /** The members one after the other. */
  readonly packed: Uint8Array;
  /** Their compressed lengths. */
  readonly lengths: readonly number[];
  /** SHA-256 in hex, in the order asked. */
  readonly digests: readonly string[];
}

/** Compresses jobs; answers may come in another order than the calls. */
export interface Packer {
  /** How many jobs it works on at once. */
  readonly width: number;
  pack(job: PackJob): Promise<Packed>;
}

/** Compresses a batch at once, on the calling thread. The bytes depend on the job alone (see ADR 30). */
export function packBatch(job: PackJob): Packed {
  const parts: Uint8Array[] = [];
  const lengths: number[] = [];
  let at = 0;
  for (const length of job.members) {
    const member = compress(job.raw.subarray(at, at + length), job.format, job.level);
    at += length;
    parts.push(member);
    lengths.push(member.length);
  }
  const digests = job.digests.map(([start, length]) =>
    hash('sha256', job.raw.subarray(start, start + length), 'hex'),
  );
  return { raw: job.raw, packed: joined(parts), lengths, digests };
}

/** A packer without threads. */
export const inlinePacker: Packer = { width: 1, pack: async (job) => packBatch(job) };

/** One gzip member or zstd frame of these bytes; for `none` the bytes themselves. */
export function compress(raw: Uint8Array, format: PackFormat, level: number): Uint8Array {
  if (format === 'none') return raw;
  if (format === 'zstd')
    return zstdCompressSync(raw, { params: { [constants.ZSTD_c_compressionLevel]: level } });
  return fixedHeader(gzipSync(raw, { level }));
}

/** The header fields that zlib fills in by level and platform are set to what Go writes: no hints, system unknown. */
function fixedHeader(member: Uint8Array): Uint8Array {
  member[8] = 0;
  member[9] = 0xff;
  return member;
}
