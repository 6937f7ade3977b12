import { CodedError } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { Located } from '@sepia/cluster/core/where';

/** Not all that could have the blob were asked, or answered. */
export const UNDECIDED = { type: 'undecided' } as const;

/** The error for a blob that no origin has, or of which an origin that could have it does not answer. */
export function missingBlob(name: BlobName, found: Pick<Located, 'type'>): CodedError {
  const detail = { digest: name.digest, repository: name.repository };
  if (found.type === 'undecided')
    return new CodedError('QUORUM_LOST', {
      message: 'an origin that could hold this blob does not answer',
      detail,
    });
  return new CodedError('BLOB_UNKNOWN', { detail });
}

/** The backend does not have it. @see missingBlob; an origin that has it by now is asked at the next try */
export function missingThere(name: BlobName, found: Pick<Located, 'type'>): CodedError {
  return missingBlob(name, found.type === 'at' ? UNDECIDED : found);
}
