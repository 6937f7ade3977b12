import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { Located } from '@sepia/cluster/core/where';

/**
 * Runs `work`, which asks a registry or backend behind. Its "unknown" is doubted for what was pushed here, which may not
 * have reached it yet: it counts only where all who could have the content say no, too.
 * @throws `QUORUM_LOST` when one of them is silent, else what `work` fails with
 */
export async function doubtUnknown<T>(
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
