import { CodedError } from '@sepia/base/errors';

/** Bytes `start` … `end`, both inclusive, 0-based. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}

/**
 * What a `Range` header asks of a body of `sizeBytes` (RFC 9110, 14.2). `whole` when there is no header, when
 * it is not in bytes, not well-formed, or asks for more than {@link MAX_RANGES} parts: the header is then ignored.
 * `openEnded`: a single `N-`, as clients send to resume.
 */
export type RangeRequest =
  | { readonly type: 'whole' }
  | { readonly type: 'single'; readonly range: ByteRange; readonly openEnded: boolean }
  | { readonly type: 'several'; readonly ranges: readonly ByteRange[] };

/** More parts than this in one request are answered with the whole body (RFC 9110, 14.2 allows it). */
export const MAX_RANGES = 16;

/** @throws {CodedError} `RANGE_INVALID` when no part overlaps the body */
export function parseRange(header: string | undefined, sizeBytes: number): RangeRequest {
  if (header === undefined || header === '') return { type: 'whole' };
  const found = /^bytes\s*=\s*(.+)$/i.exec(header.trim());
  if (found === null) return { type: 'whole' };
  const specs = found[1]!.split(',').map((spec) => spec.trim());
  if (specs.length > MAX_RANGES) return { type: 'whole' };
  const ranges: ByteRange[] = [];
  let openEnded = false;
  for (const spec of specs) {
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

function one(first: string, last: string, sizeBytes: number): ByteRange | undefined | 'malformed' {
  if (first === '') {
    const length = Number(last);
    return length === 0 || sizeBytes === 0
      ? undefined
      : { start: Math.max(0, sizeBytes - length), end: sizeBytes - 1 };
  }
  const start = Number(first);
  if (last !== '' && Number(last) < start) return 'malformed';
  if (start >= sizeBytes) return undefined;
  return { start, end: last === '' ? sizeBytes - 1 : Math.min(Number(last), sizeBytes - 1) };
}

export function contentRange(range: ByteRange, sizeBytes: number): string {
  return `bytes ${range.start}-${range.end}/${sizeBytes}`;
}
