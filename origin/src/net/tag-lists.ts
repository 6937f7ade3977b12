import { CodedError } from '@sepia/shared/errors';
import type { RepositoryName } from '@sepia/shared/names/repository';
import { byBytes, type Tags } from './tags.ts';
import { isPassing, upstreamError } from './upstream-failure.ts';
import type { Upstreams } from './upstreams.ts';

/** The upstream may take this long for its whole list, in ms. */
const LIST_MS = 15_000;
/** Pages of an upstream's tag list that are read. */
const MAX_PAGES = 100;
const PAGE_TAGS = 1_000;

/**
 * Tags of a repository, sorted. Mode none: those on record. Pull-through: the upstream's own list, and those on
 * record where it does not answer. @throws `REPOSITORY_UNKNOWN`, `QUORUM_LOST`, what the upstream says
 */
export async function listTags(
  deps: { readonly tags: Tags; readonly upstreams: Upstreams },
  name: { readonly upstream: string; readonly repository: RepositoryName },
): Promise<string[]> {
  const client = deps.upstreams.client(name.upstream);
  if (client === undefined) {
    const found = await deps.tags.list(name.upstream, name.repository);
    if (found.length > 0) return found;
    throw new CodedError('REPOSITORY_UNKNOWN', { detail: { repository: name.repository } });
  }
  const signal = AbortSignal.timeout(LIST_MS);
  const all = new Set<string>();
  try {
    let last: string | undefined;
    for (let page = 0; page < MAX_PAGES; page++) {
      const { tags, next } = await client.listTags(
        { repository: name.repository, n: PAGE_TAGS, last },
        signal,
      );
      for (const tag of tags) all.add(tag);
      if (next === undefined || next === last) break;
      last = next;
    }
  } catch (thrown) {
    const error = upstreamError(thrown, name.upstream);
    const known = isPassing(error)
      ? await deps.tags.list(name.upstream, name.repository).catch(() => [])
      : [];
    if (known.length === 0) throw error;
    for (const tag of known) all.add(tag);
  }
  return [...all].sort(byBytes);
}
