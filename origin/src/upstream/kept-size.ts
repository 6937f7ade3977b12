import type { BlobSource } from '@sepia/backend/blob-backend';
import { isCoded } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';

/**
 * Size of a blob as its registry or backend says by HEAD, if it keeps that word: one whose HEAD outlives the bytes
 * answers the GET of the first one with 404. What that GET says of the size counts more: it is what comes. Undefined where
 * neither says one.
 * @throws {CodedError} as `BlobSource`
 */
export async function keptSize(
  source: BlobSource | undefined,
  name: BlobName,
  signal: AbortSignal,
): Promise<number | undefined> {
  const stated = (await source?.headBlob(name, signal))?.sizeBytes;
  if (source === undefined || stated === undefined || stated === 0) return stated;
  try {
    const { body, sizeBytes } = await source.getBlob({ ...name, range: { start: 0, end: 0 } }, signal);
    body.destroy();
    return sizeBytes ?? stated;
  } catch (error) {
    if (isCoded(error, 'RANGE_INVALID')) return undefined;
    throw error;
  }
}
