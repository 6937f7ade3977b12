import { digestAlgorithm, digestOf } from '@sepia/base/digest';
import type { BlobName } from '@sepia/base/names/blob-name';
import { MAX_BLOB_BYTES } from '@sepia/metainfo/metainfo';
import type { FetchDeps, FetchOptions } from './fetch-parts.ts';

/** A size that a manifest tells; 0 is none, unless the blob is the empty one, nor is one that no blob may have. */
function toldSize({ digest }: BlobName, { adopt, sizeHint }: SizeFacts): number | undefined {
  if (adopt !== undefined) return undefined;
  if (sizeHint !== undefined && sizeHint > MAX_BLOB_BYTES) return undefined;
  if (sizeHint !== 0) return sizeHint;
  return digestOf(new Uint8Array(0), digestAlgorithm(digest)) === digest ? 0 : undefined;
}

type SizeFacts = Pick<FetchOptions, 'adopt' | 'sizeHint'>;

/** True where nobody but a manifest has said how big the blob is. */
export function isSizeTold(name: BlobName, facts: SizeFacts): boolean {
  return toldSize(name, facts) !== undefined;
}

/**
 * The size to begin with: that of the attempt gone on with, the told one, or the upstream's where parts alone are wanted.
 * @throws {CodedError} what the upstream says
 */
export async function firstSize(
  { client }: Pick<FetchDeps, 'client'>,
  name: BlobName,
  options: SizeFacts & Pick<FetchOptions, 'wantAll'>,
  signal: AbortSignal,
): Promise<number | undefined> {
  const known = options.adopt?.sizeBytes ?? toldSize(name, options);
  return known ?? (options.wantAll ? undefined : (await client.headBlob(name, signal)).sizeBytes);
}

/** The one request that is out while nobody knows how big a blob is. */
export class Sizing {
  #isRunning = false;

  get isRunning(): boolean {
    return this.#isRunning;
  }

  async run<T>(ask: () => Promise<T>): Promise<T> {
    this.#isRunning = true;
    try {
      return await ask();
    } finally {
      this.#isRunning = false;
    }
  }
}
