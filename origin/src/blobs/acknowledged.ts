import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { BlobName } from '@sepia/base/names/blob-name';

/**
 * What a push made is somewhere, whatever the registry behind says that may not have it yet: "unknown" from there only
 * means that who has it is silent. @throws `QUORUM_LOST` then, else what `work` fails with
 */
export async function acknowledged<T>(
  name: BlobName,
  link: { readonly pushed?: boolean | undefined } | undefined,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throwIfBug(error);
    const isUnknown = isCoded(error, 'BLOB_UNKNOWN') || isCoded(error, 'MANIFEST_UNKNOWN');
    if (link?.pushed !== true || !isUnknown) throw error;
    throw new CodedError('QUORUM_LOST', {
      message: 'an origin that holds this pushed content does not answer',
      detail: { digest: name.digest, repository: name.repository },
      cause: error,
    });
  }
}
