import { CodedError, isCoded } from '@sepia/base/errors';

/** Bytes `start` … `end` of a body, both inclusive, 0-based; not empty. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/**
 * What a `Range` header asks of a body of `sizeBytes` (RFC 9110, 14.2). `whole` when there is no header, when
 * it is not in bytes or not well-formed, and of an empty body, no part of which could be named: the header is then ignored.
 * `openEnded`: a single `N-`, as clients send to resume.
 */
export type RangeRequest =
  | { readonly type: 'whole' }
  | { readonly type: 'single'; readonly range: ByteRange; readonly openEnded: boolean }
  | { readonly type: 'several'; readonly ranges: readonly ByteRange[] };

/** More parts than this in one request are refused: lazy clients then ask for single ranges. */
export const MAX_RANGES = 64;

/** @throws {CodedError} `RANGE_INVALID` when no part overlaps the body, `REQUEST_INVALID` for more than {@link MAX_RANGES} parts */
export function parseRange(header: string | undefined, sizeBytes: number): RangeRequest {
  if (header === undefined || header === '' || sizeBytes === 0) return { type: 'whole' };
  const found = /^bytes\s*=\s*(.+)$/i.exec(header.trim());
  if (found === null) return { type: 'whole' };
  const specs = found[1]!.split(',').map((spec) => spec.trim());
  if (specs.length > MAX_RANGES)
    throw new CodedError('REQUEST_INVALID', {
      message: `at most ${MAX_RANGES} ranges in one request; ask for single ones`,
      detail: { ranges: specs.length },
    });
  const ranges: ByteRange[] = [];
  let openEnded = false;
  // Elements of a list may be empty (RFC 9110, 5.6.1.2).
  const said = specs.filter((spec) => spec !== '');
  if (said.length === 0) return { type: 'whole' };
  for (const spec of said) {
    const parts = /^(\d*)-(\d*)$/.exec(spec);
    if (parts === null || spec === '-') return { type: 'whole' };
    const range = one(parts[1]!, parts[2]!, sizeBytes);
    if (range === 'malformed') return { type: 'whole' };
    if (range === undefined) continue;
    ranges.push(range);
    openEnded = parts[1] !== '' && parts[2] === '';
  }
  if (ranges.length === 0)
    throw new CodedError('RANGE_INVALID', { detail: { range: header.slice(0, 200), sizeBytes } });
  if (ranges.length > 1) return { type: 'several', ranges };
  return { type: 'single', range: ranges[0]!, openEnded };
}

/** The first of the ranges is a suffix: where it begins only the size tells. */
const SUFFIX_FIRST = /^\s*bytes\s*=[\s,]*-/i;

/** What a request reads of a blob: all of it, or ranges, of which the first begins at `start` where that can be told. */
export type RangeWish =
  | { readonly want: 'all' }
  | { readonly want: 'ranges'; readonly start?: number | undefined };

/**
 * What a `Range` header wants, before the blob is looked for; `sizeBytes` if known. An open end (`N-`) resumes a whole
 * download.
 * @throws {CodedError} `REQUEST_INVALID` as {@link parseRange}
 */
export function rangeWish(header: string, sizeBytes?: number): RangeWish {
  try {
    const asked = parseRange(header, sizeBytes ?? Number.MAX_SAFE_INTEGER);
    if (asked.type === 'whole' || (asked.type === 'single' && asked.openEnded)) return { want: 'all' };
    const { start } = asked.type === 'single' ? asked.range : asked.ranges[0]!;
    const isFromEnd = sizeBytes === undefined && SUFFIX_FIRST.test(header);
    return isFromEnd ? { want: 'ranges' } : { want: 'ranges', start };
  } catch (error) {
    if (!isCoded(error, 'RANGE_INVALID')) throw error;
    return { want: 'ranges' };
  }
}

/** True for a single `N-` (N > 0), by which clients go on with what they have of a body. */
export function isResume(header: string): boolean {
  const [, start] = /^\s*bytes\s*=\s*(\d+)-\s*$/i.exec(header) ?? [];
  return start !== undefined && Number(start) > 0;
}

function one(first: string, last: string, sizeBytes: number): ByteRange | undefined | 'malformed' {
  if (first === '') {
    const length = Number(last);
    return length === 0 ? undefined : { start: Math.max(0, sizeBytes - length), end: sizeBytes - 1 };
  }
  const start = Number(first);
  if (last !== '' && Number(last) < start) return 'malformed';
  if (start >= sizeBytes) return undefined;
  return { start, end: last === '' ? sizeBytes - 1 : Math.min(Number(last), sizeBytes - 1) };
}

/** The value of `Content-Range` (RFC 9110, 14.4). */
export function contentRange(range: ByteRange, sizeBytes: number): string {
  return `bytes ${range.start}-${range.end}/${sizeBytes}`;
}
