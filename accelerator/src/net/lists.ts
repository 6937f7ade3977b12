import { CodedError } from '@sepia/base/errors';
import { objectOf } from '@sepia/upstream/answer-facts';
import { type ReferrerEntry, referrersOf as referrersIn } from '@sepia/upstream/referrer-list';
import { LIST_MS, REFERRERS_MS } from '../deadlines.ts';
import { type Proxies, upstreamHeader } from './proxies.ts';

const MAX_LIST_BYTES = 16 * 1024 * 1024;
const PAGE = 1_000;
/** Pages of one list. */
const MAX_PAGES = 1_000;

/** Names of a paged list of the distribution API. @throws {CodedError} what the cluster throws */
export async function* listed(
  proxies: Proxies,
  upstream: string,
  list: { readonly path: string; readonly key: 'repositories' | 'tags' },
  signal: AbortSignal,
): AsyncGenerator<string> {
  let last = '';
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const query = new URLSearchParams({ n: String(PAGE), ...(last === '' ? {} : { last }) }).toString();
    const call = {
      method: 'GET' as const,
      path: `${list.path}?${query}`,
      headers: upstreamHeader(upstream),
      headersTimeoutMs: LIST_MS,
      signal,
    };
    const { bytes } = await proxies.bytes(call, MAX_LIST_BYTES);
    // Some registries send null for an empty list.
    const names = (objectOf(bytes) ?? refuse(list.key))[list.key] ?? [];
    if (!Array.isArray(names)) refuse(list.key);
    if (names.length === 0) return;
    for (const name of names) if (typeof name === 'string') yield name;
    const next = String(names.at(-1));
    if (names.length < PAGE || next === last) return;
    last = next;
  }
}

/** Everything that names a digest as its subject. @throws {CodedError} what the cluster throws */
export async function referrersOf(
  proxies: Proxies,
  { upstream, repository }: { readonly upstream: string; readonly repository: string },
  digest: string,
  signal: AbortSignal,
): Promise<ReferrerEntry[]> {
  const call = {
    method: 'GET' as const,
    path: `/v2/${repository}/referrers/${digest}`,
    headers: upstreamHeader(upstream),
    headersTimeoutMs: REFERRERS_MS,
    signal,
  };
  const { bytes } = await proxies.bytes(call, MAX_LIST_BYTES);
  return referrersIn(bytes) ?? refuse('referrers');
}

function refuse(what: string): never {
  throw new CodedError('PEER_HTTP', { message: `what a proxy answered is no list of ${what}` });
}
