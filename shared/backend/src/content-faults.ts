import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';

/** `DISK_CORRUPT` for a blob of this disk that ended, while it was being written to a backend, at byte `found` of its size. */
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

/** `BLOB_UNKNOWN` of a place that keeps blobs; `place` in words. */
export function unknownBlob(digest: Digest, place: string): CodedError {
  return new CodedError('BLOB_UNKNOWN', { message: `${place} does not have it`, detail: { digest, place } });
}

/** The place has marks of these clusters, and it is for one alone. @throws `UPSTREAM_DENIED` for another's than `owner`'s */
export function requireAlone(
  { place, marks }: { readonly place: string; readonly marks: string },
  owners: readonly string[],
  owner: string,
): void {
  const other = owners.find((one) => one !== owner);
  if (other === undefined) return;
  throw new CodedError('UPSTREAM_DENIED', {
    message: `${place} belongs to another cluster (${marks}${other}): give each cluster a place of its own; where that one is gone, remove this mark`,
    detail: { place, mark: `${marks}${other}` },
  });
}
