import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { Located } from '@sepia/cluster/core/where';

/**
 * What a push made is somewhere, whatever the registry behind says that may not have it yet: "unknown" from there only
 * counts when all who could have it say no: then it came there, was evicted here, and was taken away there.
 * @throws `QUORUM_LOST` when one of them is silent, else what `work` fails with
 */
export async function acknowledged<T>(
  name: BlobName,
  link: { readonly pushed?: boolean | undefined } | undefined,
  blobs: { locateOthers(name: BlobName): Promise<Pick<Located, 'type'>> },
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throwIfBug(error);
    const isUnknown = isCoded(error, 'BLOB_UNKNOWN') || isCoded(error, 'MANIFEST_UNKNOWN');
    if (link?.pushed !== true || !isUnknown) throw error;
    if ((await blobs.locateOthers(name)).type === 'absent') throw error;
    throw new CodedError('QUORUM_LOST', {
      message: 'an origin that holds this pushed content does not answer',
      detail: { digest: name.digest, repository: name.repository },
      cause: error,
    });
  }
}
