import { CodedError } from '@sepia/base/errors';

/** An upload session's id: `<originId>.<random>`; the origin named in it is the session's stager. */
export interface UploadId {
  readonly text: string;
  readonly stagerId: string;
}

/** @throws {CodedError} `UPLOAD_UNKNOWN`: an id that cannot be one was never handed out */
export function parseUploadId(text: string): UploadId {
  const found = /^([a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?)\.([A-Za-z0-9_-]{8,128})$/.exec(text);
  if (found === null) throw new CodedError('UPLOAD_UNKNOWN', { detail: { uploadId: text.slice(0, 200) } });
  return { text, stagerId: found[1]! };
}

/** `Range` of an upload's answers: first and last byte held, both inclusive; an empty session is `0-0`. */
export function heldRange(offsetBytes: number): string {
  return `0-${Math.max(0, offsetBytes - 1)}`;
}
