import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';

/** What was read to be written ends too early. */
export function shortContent(
  content: { readonly digest: Digest; readonly sizeBytes: number },
  found: number,
) {
  const { digest, sizeBytes } = content;
  return new CodedError('DISK_CORRUPT', {
    message: `blob ${digest} ends at byte ${found} of ${sizeBytes}`,
    detail: { digest, expected: sizeBytes, found },
  });
}

/** What was read to be written is not the blob. */
export function wrongContent(digest: Digest, found: Digest): CodedError {
  return new CodedError('DISK_CORRUPT', {
    message: `what was read of blob ${digest} does not have its digest; it was not written`,
    detail: { digest, found },
  });
}

export function unknownBlob(digest: Digest, place: string): CodedError {
  return new CodedError('BLOB_UNKNOWN', { message: `${place} does not have it`, detail: { digest, place } });
}
