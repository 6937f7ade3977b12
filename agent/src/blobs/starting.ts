import { saidUnknown } from '@sepia/base/async/single-flight';
import { throwIfBug } from '@sepia/base/failure';
import { type BlobName, linkKey } from '@sepia/base/names/blob-name';
import type { Finding, Guide } from '../downloads/guide-port.ts';

/** A blob that is passed on but not kept. */
export interface Passing {
  readonly guide: Guide;
  readonly finding: Finding;
}

/** A blob that was asked for under a name, and is not on its way yet. */
export interface Starting<T> {
  readonly name: BlobName;
  readonly begun: Promise<T>;
}

/**
 * Whether it ends with what is no answer to who came later, with this name: "unknown", for it was asked before, perhaps before a
 * push was acknowledged; or any failure under another name, which may be that of an upstream that has nothing to do with it.
 */
export async function isNoAnswer({ name, begun }: Starting<unknown>, asked: BlobName): Promise<boolean> {
  if (linkKey(name) === linkKey(asked)) return await saidUnknown(begun);
  return await begun.then(
    () => false,
    (error: unknown) => {
      throwIfBug(error);
      return true;
    },
  );
}
