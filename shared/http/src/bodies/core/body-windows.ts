import { LEAF_BYTES, PIECE_BYTES } from '@sepia/metainfo/tree';
import type { ByteRange } from '@sepia/oci/range';

/** Bytes of a body that are read, checked and written at once: of one piece, at most as many as the buffer holds. */
export interface Window {
  readonly piece: number;
  /** First byte and the one behind the last, in the blob. */
  readonly start: number;
  readonly end: number;
}

/** The window of a range that begins at `at`, read into a buffer of `bufferBytes` (whole leaves). */
export function windowAt(range: ByteRange, at: number, bufferBytes: number): Window {
  const piece = Math.floor(at / PIECE_BYTES);
  const end = Math.min(range.end + 1, (piece + 1) * PIECE_BYTES, leafStart(at) + bufferBytes);
  return { piece, start: at, end };
}

/** The leaves that a window touches, as bytes of the blob: what must be read to check it. */
export function leavesOf({ start, end, piece }: Window, sizeBytes: number): ByteRange {
  const from = leafStart(start);
  const to = Math.min(leafStart(end + LEAF_BYTES - 1), (piece + 1) * PIECE_BYTES, sizeBytes);
  return { start: from, end: to - 1 };
}

/** Place of the leaf that begins at byte `at` among the leaves of its piece. */
export function leafIndex(at: number): number {
  return Math.floor((at % PIECE_BYTES) / LEAF_BYTES);
}

/** First byte of the leaf that byte `at` of a blob lies in. */
export function leafStart(at: number): number {
  return Math.floor(at / LEAF_BYTES) * LEAF_BYTES;
}

/** How the client took what it was given so far. */
export interface Pace {
  /** Writes in a row that the socket took at once. */
  readonly quickWrites: number;
}

/** Of a reader of which nothing is known: a usual buffer. */
export const FIRST_PACE: Pace = { quickWrites: 0 };

/** A write that the socket took within this is quick, in ms; one of many bytes has longer. */
const QUICK_MS = 25;
/** Bytes per ms at which a client is quick all the same: 10 MiB/s. */
const QUICK_BYTES_PER_MS = (10 * 1024 * 1024) / 1000;
/** After so many quick writes a reader gets large buffers. */
const QUICK_WRITES = 8;

/** The pace of a client whose socket took `bytes` in `tookMs`: a write that was not quick begins it anew. */
export function paceAfter(pace: Pace, tookMs: number, bytes: number): Pace {
  const isQuick = tookMs <= Math.max(QUICK_MS, bytes / QUICK_BYTES_PER_MS);
  return isQuick ? { quickWrites: pace.quickWrites + 1 } : FIRST_PACE;
}

/** Buffers of one size that are lent out, and how many may be. */
interface Lent {
  readonly large: number;
  readonly usual: number;
}

/** Sizes of buffers that bodies are read by, see {@link BUFFER_BYTES}. */
export type BufferSize = 'large' | 'usual' | 'small';

/** Bytes of each kind of buffer: whole leaves. A slow reader holds one that is not large. */
export const BUFFER_BYTES: Readonly<Record<BufferSize, number>> = {
  large: 16 * LEAF_BYTES,
  usual: 4 * LEAF_BYTES,
  small: LEAF_BYTES,
};

/** Most buffers of a kind in a process: 6 MiB and 8 MiB; small ones are never refused, 500 readers hold 6 MiB more. */
const MOST: Lent = { large: 24, usual: 128 };

/** Which buffer a reader gets next: a large one if its client is quick, a small one where too many are lent. */
export function bufferFor(pace: Pace, lent: Lent): BufferSize {
  if (isQuick(pace) && lent.large < MOST.large) return 'large';
  return lent.usual < MOST.usual ? 'usual' : 'small';
}

/** Windows of one body that are read while one is sent, where few buffers are lent: the disk, hashing and the socket work at once. */
const MOST_AHEAD = 3;

/** How many windows may be read while the one before is being sent. */
export function mostAhead(pace: Pace, lent: Lent): number {
  if (!isQuick(pace) || lent.large >= MOST.large) return 0;
  return lent.large < MOST.large / 2 ? MOST_AHEAD : 1;
}

/** Ranges of other members that may stay open between two reads, in a process: each holds up to 0.2 MiB. */
const MOST_OPEN_RANGES = 24;

/**
 * Whether what is asked of another member may go beyond the window that is wanted now: not for a client that lets it
 * wait, nor beyond a process's share. Who may not asks window by window, and holds nothing in between.
 */
export function mayStayOpen(pace: ReadPace, openRanges: number): boolean {
  return !pace.isSlow && openRanges < MOST_OPEN_RANGES;
}

/** How the reads of one blob follow each other. */
export interface ReadPace {
  /** Its range was closed because nobody read on. */
  readonly isSlow: boolean;
  /** Reads in a row that followed at once. */
  readonly quickReads: number;
}

/** Its range may stay open for the next read. */
export const FIRST_READ: ReadPace = { isSlow: false, quickReads: 0 };
/** It let a range wait: it asks window by window until it has read {@link QUICK_WRITES} times in a row at once. */
export const SLOW_READER: ReadPace = { isSlow: true, quickReads: 0 };

/** `gapMs`: from the end of the read before to the begin of this one. */
export function readPaceAfter({ isSlow, quickReads }: ReadPace, gapMs: number): ReadPace {
  if (!isSlow) return FIRST_READ;
  if (gapMs > QUICK_MS) return SLOW_READER;
  return quickReads + 1 >= QUICK_WRITES ? FIRST_READ : { isSlow, quickReads: quickReads + 1 };
}

/** True if the next window may lie in memory that others need soon: who took the last one at once will take it too. */
export function mayBorrow({ quickWrites }: Pace): boolean {
  return quickWrites > 0;
}

function isQuick({ quickWrites }: Pace): boolean {
  return quickWrites >= QUICK_WRITES;
}
