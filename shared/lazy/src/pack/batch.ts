import { hash } from 'node:crypto';
import { constants, gzipSync, zstdCompressSync } from 'node:zlib';
import { joined } from '../joined.ts';

/** What bytes are packed as; `none`: they are hashed, and stay as they are. */
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

/** What became of a {@link PackJob}. The bytes are the receiver's, and alone in their memory. */
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
  return { raw: job.raw, packed: putTogether(parts, job.format), lengths, digests };
}

/** The parts as one; what they were made in is freed at once, for V8 finds it late. */
function putTogether(parts: readonly Uint8Array[], format: PackFormat): Uint8Array {
  if (format === 'none') return joined(parts);
  if (parts.length === 1) return parts[0]!;
  const whole = joined(parts);
  for (const part of parts) freeOwn(part);
  return whole;
}

/** Frees memory that these bytes have for themselves: all of {@link Packed}, when nobody looks at it any more. */
export function freeOwn(bytes: Uint8Array): void {
  (bytes.buffer as ArrayBuffer).transfer(0);
}

/** A packer that works in the thread of its caller, one job after the other. */
export const inlinePacker: Packer = { width: 1, pack: async (job) => packBatch(job) };

/** One gzip member or zstd frame of these bytes; for `none` the bytes themselves. */
export function compress(raw: Uint8Array, format: PackFormat, level: number): Uint8Array {
  if (format === 'none') return raw;
  // Room for all of it: nothing is put together afterwards, and zstd needs no buffers of its own. Never so little that it
  // would come out of Node's pool, which others share.
  const chunkSize = Math.max(Buffer.poolSize, raw.length + Math.ceil(raw.length / 128) + 1024);
  if (format === 'zstd')
    return zstdCompressSync(raw, { chunkSize, params: { [constants.ZSTD_c_compressionLevel]: level } });
  // What zlib stores (level 0) depends on the room that it has.
  return fixedHeader(gzipSync(raw, level === 0 ? { level } : { level, chunkSize }));
}

/** The header fields that zlib fills in by level and platform are set to what Go writes: no hints, system unknown. */
function fixedHeader(member: Uint8Array): Uint8Array {
  member[8] = 0;
  member[9] = 0xff;
  return member;
}
