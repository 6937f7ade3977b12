import { CodedError } from '@sepia/base/errors';

/**
 * First byte (0-based) that a `Content-Range: a-b` of an upload chunk names (OCI distribution-spec, "Pushing a
 * blob in chunks"; `bytes a-b/*` is taken as well). `contentLength` must fit when both are there.
 * @throws {CodedError} `UPLOAD_INVALID`
 */
export function chunkStart(header: string, contentLength: number | undefined): number {
  const found = /^(?:bytes[ =])?(\d{1,15})-(\d{1,15})(?:\/(?:\*|\d+))?$/.exec(header.trim());
  const start = Number(found?.[1]);
  const end = Number(found?.[2]);
  if (found === null || end < start)
    throw new CodedError('UPLOAD_INVALID', {
      message: 'Content-Range is not valid',
      detail: { contentRange: header.slice(0, 100) },
    });
  if (contentLength !== undefined && contentLength !== end - start + 1) {
    throw new CodedError('UPLOAD_INVALID', {
      message: 'Content-Range and Content-Length differ',
      detail: { contentRange: header.slice(0, 100), contentLength },
    });
  }
  return start;
}
