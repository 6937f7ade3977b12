import type { ErrorCode } from '@sepia/base/errors';

/** What a store said that is no success: its status is 300 or more. */
export interface S3Refusal {
  readonly status: number;
  /** S3's own code, e.g. `SlowDown`; of an answer to HEAD only what its status means. */
  readonly code: string;
  readonly message: string;
}

/** What a refusal of the store means: our code for it, and words for the message. */
export interface S3Meaning {
  readonly code: ErrorCode;
  readonly words: string;
}

/** Asks for patience. */
const LIMITED = new Set([
  'SlowDown',
  'Throttling',
  'ThrottlingException',
  'RequestLimitExceeded',
  'TooManyRequests',
]);
/** May pass, although the status says that the request is wrong. */
const PASSING = new Set([
  'RequestTimeout',
  'OperationAborted',
  'ConditionalRequestConflict',
  'IncompleteBody',
  // What arrived is not what was sent.
  'BadDigest',
  'XAmzContentSHA256Mismatch',
  'XAmzContentChecksumMismatch',
]);
const ABSENT = new Set(['NoSuchKey', 'NotFound']);

const ADVICE: Readonly<Record<string, string>> = {
  NoSuchBucket: 'there is no such bucket; check backend.s3.bucket',
  InvalidAccessKeyId: 'it does not know the access key; check the credentials of the origins',
  SignatureDoesNotMatch: 'the secret key is not right; check the credentials of the origins',
  ExpiredToken: 'the credentials have ended; check the credentials of the origins',
  RequestTimeTooSkewed: 'the clock of this machine is wrong',
  AccessDenied:
    'the credentials of the origins need s3:ListBucket, ListBucketMultipartUploads, GetObject, PutObject, DeleteObject, AbortMultipartUpload and ListMultipartUploadParts there',
  PermanentRedirect: 'the bucket is in another region; check backend.s3.region and endpoint',
  AuthorizationHeaderMalformed: 'the bucket is in another region; check backend.s3.region',
};

/** Pure: what a refusal of a store means. @see https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html */
export function meaningOf({ status, code, message }: S3Refusal): S3Meaning {
  const said = [code, message]
    .filter((one) => one !== '')
    .join(': ')
    .slice(0, 300);
  const words = ADVICE[code] ?? `it answered ${status}${said === '' ? '' : ` (${said})`}`;
  return { code: codeOf(status, code), words };
}

function codeOf(status: number, code: string): ErrorCode {
  if (LIMITED.has(code) || status === 429) return 'UPSTREAM_LIMITED';
  if (ABSENT.has(code) && status === 404) return 'BLOB_UNKNOWN';
  if (code === 'NoSuchUpload') return 'UPLOAD_UNKNOWN';
  if (status === 416) return 'RANGE_INVALID';
  // A bucket that is new: its name does not lead to its region everywhere yet.
  const isNew = status === 307;
  if (PASSING.has(code) || isNew || status >= 500 || status === 408) return 'BACKEND_DOWN';
  return 'UPSTREAM_DENIED';
}
