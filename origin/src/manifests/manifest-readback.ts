import { digestAlgorithm, digestOf } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { readLimited } from '@sepia/http/client';
import { claimsToBeManifest, isKnownType, MAX_MANIFEST_BYTES } from '@sepia/oci/manifest';
import type { BlobStore } from '@sepia/store/blob-store';
import type { Blobs } from '../blobs/blobs.ts';
import type { LinkEntry } from '../records/links.ts';
import { upstreamError } from '../upstream/upstream-failure.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import type { StoredManifest } from './manifest-cache.ts';

interface ReadbackDeps {
  readonly upstreams: Pick<Upstreams, 'blobs'>;
  readonly blobs: Pick<Blobs, 'locateOthers'>;
  readonly store: Pick<BlobStore, 'putBytes'>;
  readonly log: Logger;
}

/**
 * A pushed manifest that no origin keeps any more, from the backend, and kept here again; undefined where it has none.
 * @throws `QUORUM_LOST` when it has none and an origin that could is silent, `UPSTREAM_LIES`, `BACKEND_DOWN` and the like
 */
export async function manifestFromBackend(
  { upstreams, blobs, store, log }: ReadbackDeps,
  name: BlobName,
  { mediaType, sizeBytes }: LinkEntry,
  signal: AbortSignal,
): Promise<StoredManifest | undefined> {
  const { upstream, repository, digest } = name;
  const source = upstreams.blobs(upstream);
  if (source === undefined || mediaType === undefined) return undefined;
  const isKnown = isKnownType(mediaType);
  // A small blob of another type may be a manifest, too: its bytes say so.
  if (!isKnown && sizeBytes === undefined) return undefined;
  let bytes: Buffer;
  try {
    const { body } = await source.getBlob(name, signal);
    bytes = await readLimited(body, MAX_MANIFEST_BYTES, upstream);
  } catch (error) {
    if (!isCoded(error, 'BLOB_UNKNOWN')) throw upstreamError(error, upstream);
    const others = await blobs.locateOthers(name);
    // What another origin has was asked for there: it is a manifest, or it is none.
    if (others.type === 'absent' || (others.type === 'at' && !isKnown)) return undefined;
    throw new CodedError('QUORUM_LOST', {
      message: 'an origin that could hold this manifest does not answer',
      detail: { digest },
      cause: error,
    });
  }
  const found = digestOf(bytes, digestAlgorithm(digest));
  if (found !== digest) throw new CodedError('UPSTREAM_LIES', { detail: { digest, found, upstream } });
  if (!isKnown && !claimsToBeManifest(bytes)) return undefined;
  const provenance = [{ upstream, repository }];
  await store
    .putBytes(digest, bytes, { class: 'cached', provenance, writtenBack: true, mediaType })
    .catch((error: unknown) => logFailure(log, error, 'manifest not kept', { digest }));
  return { digest, mediaType, bytes };
}
