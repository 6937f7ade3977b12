import type { Digest } from '@sepia/base/digest';
import { PROXY } from '@sepia/cluster/api/proxy';
import { to } from '@sepia/cluster/api/route';
import { PROFILE_ANSWER } from '@sepia/cluster/api/start-profile';
import { filesOf } from '@sepia/cluster/core/path-line';
import { RECORD_MS } from '../deadlines.ts';
import type { Proxies } from './proxies.ts';

/** Paths that a recorded start of an image, or else of its repository, read first; none where nobody recorded one. @throws what a proxy named, `NO_PEERS` */
export async function recordedStart(
  proxies: Pick<Proxies, 'json'>,
  { upstream, repository }: { readonly upstream: string; readonly repository: string },
  manifest: Digest,
  signal: AbortSignal,
): Promise<readonly string[]> {
  const line = to(PROXY.profile, { upstream, repository, manifest });
  const answer = await proxies.json<unknown>({ ...line, headersTimeoutMs: RECORD_MS, signal });
  return filesOf(PROFILE_ANSWER.parse(answer).profile?.paths ?? []);
}
