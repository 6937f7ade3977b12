import { digestAlgorithm, digestOf } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import { H_HOP, H_MEDIA_TYPE } from '@sepia/cluster/api/headers';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { claimsToBeManifest, MAX_MANIFEST_BYTES } from '@sepia/oci/manifest';
import type { Blobs } from '../blobs/blobs.ts';
import type { Members } from '../cluster/members.ts';
import { MANIFEST_COPY_MS } from '../deadlines/members.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import type { StoredManifest } from './manifest-cache.ts';

interface OthersDeps {
  readonly members: Pick<Members, 'bytes'>;
  readonly blobs: Pick<Blobs, 'locateOthers'>;
  readonly upstreams: Pick<Upstreams, 'blobs'>;
}

/**
 * A manifest as another origin has it; its bytes are checked here. `blob`: what is there says nothing of being one.
 * @throws `QUORUM_LOST` where origins alone keep it and one that could is silent
 */
export async function manifestOfOthers(
  { members, blobs, upstreams }: OthersDeps,
  name: BlobName,
): Promise<StoredManifest | 'blob' | undefined> {
  const found = await blobs.locateOthers(name);
  if (found.type === 'undecided' && upstreams.blobs(name.upstream) === undefined) {
    throw new CodedError('QUORUM_LOST', {
      message: 'an origin that could hold this manifest does not answer',
      detail: { digest: name.digest },
    });
  }
  if (found.type !== 'at' || found.state !== 'final') return undefined;
  const call = {
    ...to(ORIGIN_BLOBS.blob, name),
    headers: { [H_HOP]: '1' },
    headersTimeoutMs: MANIFEST_COPY_MS,
  };
  const answer = await members.bytes(found.originIds[0], call, MAX_MANIFEST_BYTES).catch((error: unknown) => {
    // It asked the upstream whether this repository has it; a GET says better what is wrong.
    if (isCoded(error, 'BLOB_UNKNOWN') || isCoded(error, 'MANIFEST_UNKNOWN')) return undefined;
    if (isCoded(error, 'PEER_HTTP') && error.detail['limitBytes'] !== undefined) return undefined;
    throw error;
  });
  if (answer === undefined) return undefined;
  const { bytes, headers } = answer;
  if (digestOf(bytes, digestAlgorithm(name.digest)) !== name.digest) return undefined;
  const storedAs = headers[H_MEDIA_TYPE];
  const mediaType = String(storedAs ?? headers['content-type'] ?? '');
  if (storedAs === undefined && !claimsToBeManifest(bytes)) return 'blob';
  // An index may name layers as its manifests: each is served as a blob, none as a manifest.
  if (storedAs === undefined && mediaType === 'application/octet-stream') return undefined;
  return { digest: name.digest, mediaType, bytes };
}
