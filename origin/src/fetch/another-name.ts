import { isCoded, isUpstreamFailure, takesNoWrites } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { FetchView } from './fetch-parts.ts';

type Ended = Pick<FetchView, 'name' | 'error'>;

/**
 * Waits for a fetch that `name` joined; false if it failed by what was said under the name that it was begun for. That is no
 * answer for another upstream, nor a no to one repository for another: it is asked for anew. @throws what `wait` fails with
 */
export async function isAnswerFor(
  name: BlobName,
  fetch: Ended,
  wait: () => Promise<unknown>,
): Promise<boolean> {
  try {
    await wait();
    return true;
  } catch (error) {
    if (isOnlyOf(fetch, name)) return false;
    throw error;
  }
}

function isOnlyOf({ name: own, error }: Ended, name: BlobName): boolean {
  if (error === undefined || takesNoWrites(error) || isCoded(error, 'DRAINING')) return false;
  if (own.upstream !== name.upstream) return true;
  return own.repository !== name.repository && !isUpstreamFailure(error);
}
