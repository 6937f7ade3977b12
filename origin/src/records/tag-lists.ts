import { CodedError } from '@sepia/base/errors';
import { ignoreFailure } from '@sepia/base/failure';
import type { RepositoryName } from '@sepia/base/names/repository';
import { TAG_LIST_MS } from '../deadlines/upstreams.ts';
import { isPassing, upstreamError } from '../upstream/upstream-failure.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import type { ShardName } from './own-records.ts';
import type { RecentTagLists } from './recent-tag-lists.ts';
import type { OwedTag, TagIndex } from './tag-index.ts';
import { byBytes } from './tags.ts';

/** Tags that an upstream is asked for at once; many send a hundred whatever they are asked for. */
const PAGE_TAGS = 1_000;
/** Most tags of one answer. */
const MAX_TAGS = 100_000;
/** Most tags of a repository of an upstream: what has more is refused, for a part of it would look like all. */
export const MAX_UPSTREAM_TAGS = 500_000;

/** Where a list begins and how many it names at most. */
interface ListPage {
  readonly n?: number | undefined;
  readonly last?: string | undefined;
}

/**
 * Tags of a repository, sorted. Mode none: those on record. Else: the upstream's own list, and those on
 * record where it does not answer; what awaits write-back counts before both. A further page (`last`) of a
 * pull-through may be of the list that was read for a page before it: a registry need not have an order that its own pages could be
 * asked by. What is written and deleted here is seen at once. `signal`: of who asks.
 * @throws `REPOSITORY_UNKNOWN`, `QUORUM_LOST`, `UPSTREAM_LIES` of a list without end, what the upstream says
 */
export async function listTags(
  deps: {
    readonly tagIndex: TagIndex;
    readonly catalog: { has(name: ShardName): Promise<boolean> };
    readonly upstreams: Upstreams;
    readonly recent: RecentTagLists;
  },
  name: { readonly upstream: string; readonly repository: RepositoryName },
  page: ListPage,
  signal?: AbortSignal,
): Promise<string[]> {
  const client = deps.upstreams.client(name.upstream);
  const { n: limit = MAX_TAGS, last: after } = page;
  if (client === undefined) {
    const found = await recorded(deps.tagIndex, name, after, limit);
    if (found.length > 0 || (await deps.catalog.has(name))) return found;
    throw new CodedError('REPOSITORY_UNKNOWN', { detail: { repository: name.repository } });
  }
  const owed = await owedTags(deps, name, { after, limit });
  const isNew = async (): Promise<boolean> =>
    owed.length > 0 || (after !== undefined && (await owedTags(deps, name, { limit: 1 })).length > 0);
  const kept = after === undefined ? undefined : deps.recent.get(name);
  const { tags, isWhole } =
    kept === undefined ? await upstreamTags(deps, name, isNew, signal) : { tags: kept, isWhole: false };
  const all = withOwed(tags, owed);
  const first = after === undefined ? 0 : all.findIndex((tag) => tag > after);
  if (first < 0) return [];
  const mayChangeHere = deps.upstreams.takesDeletes(name.upstream);
  if (isWhole && !mayChangeHere && first + limit < all.length) deps.recent.keep(name, tags);
  return all.slice(first, first + limit);
}

function withOwed(tags: readonly string[], owed: readonly OwedTag[]): readonly string[] {
  if (owed.length === 0) return tags;
  const all = new Set(tags);
  for (const { tag, digest } of owed)
    if (digest === undefined) all.delete(tag);
    else all.add(tag);
  return [...all].sort(byBytes);
}

/**
 * The upstream's own list, sorted (`isWhole`), else those on record. `isNew`: a repository that it does not know may be news
 * there.
 */
async function upstreamTags(
  deps: { readonly tagIndex: TagIndex; readonly upstreams: Upstreams },
  name: { readonly upstream: string; readonly repository: RepositoryName },
  isNew: () => Promise<boolean>,
  unwanted: AbortSignal | undefined,
): Promise<{ readonly tags: readonly string[]; readonly isWhole: boolean }> {
  const client = deps.upstreams.client(name.upstream)!;
  const signal = AbortSignal.timeout(TAG_LIST_MS);
  const all = new Set<string>();
  try {
    const pages = new Set<string>();
    for (let page: string | undefined; all.size <= MAX_UPSTREAM_TAGS; ) {
      const { tags, next } = await client.listTags(
        { repository: name.repository, n: PAGE_TAGS, page, unwanted },
        signal,
      );
      for (const tag of tags) all.add(tag);
      // What leads back to a page that was read ends there.
      if (next === undefined || pages.has(next)) break;
      pages.add(next);
      page = next;
    }
  } catch (thrown) {
    unwanted?.throwIfAborted();
    const error = upstreamError(thrown, name.upstream);
    // A part of the list would look like all of it.
    if (all.size > 0) throw error;
    const mayBeNew = await isNew();
    if (mayBeNew && error.code === 'REPOSITORY_UNKNOWN') return { tags: [], isWhole: false };
    const known = isPassing(error)
      ? ((await recorded(deps.tagIndex, name, undefined, MAX_TAGS).catch(ignoreFailure)) ?? [])
      : [];
    if (known.length === 0 && !mayBeNew) throw error;
    return { tags: known, isWhole: false };
  }
  if (all.size > MAX_UPSTREAM_TAGS)
    throw new CodedError('UPSTREAM_LIES', {
      message: `upstream ${name.upstream} lists more than ${MAX_UPSTREAM_TAGS} tags of ${name.repository}`,
      detail: { ...name, maxTags: MAX_UPSTREAM_TAGS },
    });
  return { tags: [...all].sort(byBytes), isWhole: true };
}

/** The owed tags that can be on one page: reading ends once `limit` of them stand, since later ones are on the next. */
async function owedTags(
  deps: { readonly tagIndex: Pick<TagIndex, 'owed'>; readonly upstreams: Pick<Upstreams, 'takesDeletes'> },
  name: ShardName,
  { after, limit }: { readonly after?: string | undefined; readonly limit: number },
): Promise<readonly OwedTag[]> {
  if (!deps.upstreams.takesDeletes(name.upstream)) return [];
  const owed: OwedTag[] = [];
  let standing = 0;
  for await (const one of deps.tagIndex.owed(name, after)) {
    owed.push(one);
    if (one.digest !== undefined) standing += 1;
    if (standing >= limit) break;
  }
  return owed;
}

async function recorded(
  index: TagIndex,
  name: ShardName,
  after: string | undefined,
  limit: number,
): Promise<string[]> {
  const found: string[] = [];
  for await (const { tag } of index.list(name, { after, limit })) found.push(tag);
  return found;
}
