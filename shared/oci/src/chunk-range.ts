import { CodedError } from '@sepia/base/errors';
import type { ByteRange } from './range.ts';

/**
 * Which bytes of an upload a chunk says it is: its `Content-Range: a-b` (OCI distribution-spec, "Pushing a blob in
 * chunks"), or `bytes a-b/*` as some clients write it. It must fit the body's length, where that is known.
 * @throws {CodedError} `UPLOAD_INVALID`, `SIZE_MISMATCH`
 */
export function parseChunkRange(header: string, contentLength: number | undefined): ByteRange {
  const found = /^(?:bytes[ =])?(\d{1,15})-(\d{1,15})(?:\/(?:\*|\d{1,15}))?$/.exec(header.trim());
  const [start, end] = [Number(found?.[1]), Number(found?.[2])];
  if (found === null || end < start)
    throw new CodedError('UPLOAD_INVALID', {
      message: 'Content-Range is not valid; write first-last',
      detail: { contentRange: header.slice(0, 100) },
    });
  if (contentLength !== undefined && contentLength !== end - start + 1)
    throw new CodedError('SIZE_MISMATCH', {
      message: 'Content-Range and Content-Length differ',
      detail: { contentRange: header.slice(0, 100), contentLength },
    });
  return { start, end };
}
