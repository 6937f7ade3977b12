import type { Digest } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import { H_HOP } from '@sepia/cluster/api/headers';
import { ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { FIRST_ANSWER_MS } from '@sepia/cluster/deadlines';
import { MAX_MANIFEST_BYTES } from '@sepia/oci/manifest';
import type { Members } from '../cluster/members.ts';
import type { TagName } from '../records/tags.ts';
import type { ManifestAnswer, ManifestWish } from './manifests.ts';
import { broughtHeader } from './recheck.ts';

/**
 * One revalidation per cluster: the first healthy owner of the shard does it. Undefined if it does not answer.
 * @throws what it says; the reason of the wish's signal
 */
export async function askLeader(
  members: Members,
  leader: string,
  name: TagName,
  wish: ManifestWish,
): Promise<ManifestAnswer | undefined> {
  try {
    const asked = to(ORIGIN_NAMES.manifest, { ...name, reference: name.tag, fresh: wish.fresh });
    const sent = { [H_HOP]: '1', ...broughtHeader(wish.authorization) };
    const call = { ...asked, headers: sent, headersTimeoutMs: FIRST_ANSWER_MS.leader };
    const ask = async (signal: AbortSignal) =>
      await members.bytes(leader, { ...call, signal }, MAX_MANIFEST_BYTES);
    const { bytes, headers } = await members.attended(leader, ask, wish.signal);
    const stale = Number(headers['sepia-stale'] ?? Number.NaN);
    const digest = String(headers['docker-content-digest']) as Digest;
    return {
      digest,
      mediaType: String(headers['content-type']),
      bytes,
      ...(Number.isNaN(stale) ? {} : { staleSeconds: stale }),
    };
  } catch (error) {
    wish.signal?.throwIfAborted();
    if (isCoded(error, 'PEER_HTTP') || isCoded(error, 'DRAINING') || isCoded(error, 'INTERNAL'))
      return undefined;
    throw error;
  }
}
