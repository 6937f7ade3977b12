import { CodedError } from '@sepia/base/errors';
import { nextQuery, objectOf } from '@sepia/upstream/answer-facts';
import { type ReferrerEntry, referrersOf as referrersIn } from '@sepia/upstream/referrers/referrer-list';
import { LIST_MS, REFERRERS_MS } from '../deadlines.ts';
import { type Proxies, upstreamHeader } from './proxies.ts';

const MAX_LIST_BYTES = 16 * 1024 * 1024;
const PAGE = 1_000;
/** Pages of one list. */
const MAX_PAGES = 1_000;
/** A page of referrers has about 1 MiB or 500 of them. */
const MAX_REFERRER_PAGES = 100;

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

/**
 * Referrers of a digest, of one artifact type if that is given: all pages, up to {@link MAX_LIST_BYTES} together. @throws
 * {CodedError} what the cluster throws
 */
export async function referrersOf(
  proxies: Proxies,
  { upstream, repository }: { readonly upstream: string; readonly repository: string },
  digest: string,
  signal: AbortSignal,
  artifactType?: string,
): Promise<ReferrerEntry[]> {
  const found: ReferrerEntry[] = [];
  const path = `/v2/${repository}/referrers/${digest}`;
  let query = artifactType === undefined ? '' : new URLSearchParams({ artifactType }).toString();
  let bytesRead = 0;
  for (let page = 0; page < MAX_REFERRER_PAGES; page += 1) {
    const call = {
      method: 'GET' as const,
      path: query === '' ? path : `${path}?${query}`,
      headers: upstreamHeader(upstream),
      headersTimeoutMs: REFERRERS_MS,
      signal,
    };
    const { bytes, headers } = await proxies.bytes(call, MAX_LIST_BYTES);
    for (const one of referrersIn(bytes) ?? refuse('referrers')) found.push(one);
    bytesRead += bytes.length;
    const next = nextQuery(String(headers['link'] ?? ''));
    if (next === undefined || next === query || bytesRead >= MAX_LIST_BYTES) break;
    query = next;
  }
  return found;
}

function refuse(what: string): never {
  throw new CodedError('PEER_HTTP', { message: `what a proxy answered is no list of ${what}` });
}
