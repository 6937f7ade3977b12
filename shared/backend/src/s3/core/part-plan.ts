/** Most parts that S3 takes of one upload. */
export const MAX_PARTS = 10_000;
const MIB = 1024 * 1024;

/** One part of an upload, by its number from 1. */
export interface Part {
  readonly number: number;
  readonly start: number;
  /** Exclusive. */
  readonly end: number;
}

/** Size of the parts of a blob: `leastBytes`, or as large as 10,000 parts need; the same for the same blob at every origin. */
export function partBytesOf(sizeBytes: number, leastBytes: number): number {
  const needed = Math.ceil(sizeBytes / MAX_PARTS / MIB) * MIB;
  return Math.max(leastBytes, needed);
}

/** The parts of a blob, in order. */
export function* partsOf(sizeBytes: number, partBytes: number): Generator<Part, void, void> {
  for (let start = 0, number = 1; start < sizeBytes; start += partBytes, number += 1)
    yield { number, start, end: Math.min(sizeBytes, start + partBytes) };
}

/** What a store says of an object's checksum, as far as it says anything. */
export interface StatedChecksum {
  readonly sizeBytes: number | undefined;
  /** SHA-256 in base64; with `-N` that of the checksums of N parts. */
  readonly sha256: string | undefined;
}

/**
 * Whether an object that is there is the blob. `unlike`: by size or checksum it is not. `compare`: its checksum is that of
 * `parts` parts, to be computed. Where a store tells no checksum the size decides: what was written was checked on its way.
 */
export function likeness(
  found: StatedChecksum,
  blob: { readonly sizeBytes: number; readonly sha256: string | undefined; readonly parts: number },
): 'same' | 'unlike' | 'compare' {
  if (found.sizeBytes !== undefined && found.sizeBytes !== blob.sizeBytes) return 'unlike';
  const { sha256 } = found;
  if (sha256 === undefined) return 'same';
  const parts = /^[^-]+-(\d+)$/.exec(sha256)?.[1];
  if (parts !== undefined) return Number(parts) === blob.parts ? 'compare' : 'same';
  return blob.sha256 === undefined || sha256 === blob.sha256 ? 'same' : 'unlike';
}
