import { type Digest, isDigest } from '@sepia/base/digest';
import type { Tag } from '@sepia/base/names/repository';
import { isKnownType } from '@sepia/oci/manifest';
import { joinFields, joinWhole } from '@sepia/records/core/join';
import { compareBallots } from '@sepia/records/register/register';
import type { Link } from '@sepia/records/store/record-store';
import type { OwnPage } from '../records/core/record-merge.ts';
import type { TagName, Tags } from '../records/tags.ts';
import type { GcLink, GcReferrer, MarkRules, RepositoryView } from './core/mark.ts';
import { type OwnRecord, type OwnTag, rootsOf } from './own-content.ts';
import { type Peers, refused } from './peers.ts';

/** Links of one repository that are held in memory for its mark; one that has more is left as it is. */
const MAX_LINKS = 500_000;

type Shard = Pick<TagName, 'upstream' | 'repository'>;

/** All that a repository has on record, from every one of its owners; `further`: blobs that stay whoever names them. @throws what a silent owner leaves */
export async function viewRepository(
  deps: { readonly peers: Peers; readonly tags: Pick<Tags, 'state'> },
  shard: Shard,
  rules: MarkRules,
  further: ReadonlySet<Digest> = new Set(),
): Promise<RepositoryView> {
  // Tags last: what a push links is linked before its tag moves.
  const linkRecords = await mergedRecords(deps.peers, shard, 'links');
  const referrerRecords = await mergedRecords(deps.peers, shard, 'referrers');
  const links = new Map<Digest, GcLink>();
  let sinceMs = Number.POSITIVE_INFINITY;
  for (const { key, atMs, value } of linkRecords) {
    sinceMs = Math.min(sinceMs, atMs);
    const digest = key[0] ?? '';
    if (value === undefined || !isDigest(digest)) continue;
    const { sizeBytes = 0, mediaType } = value as Link;
    const isManifest = mediaType !== undefined && isKnownType(mediaType);
    links.set(digest, { digest, atMs, sizeBytes, isManifest });
  }
  const referrers: GcReferrer[] = [];
  for (const { key, atMs, value } of referrerRecords) {
    const [subject = '', digest = ''] = key;
    if (value !== undefined && isDigest(subject) && isDigest(digest))
      referrers.push({ subject, digest, atMs });
  }
  const tagged = await tagRoots(deps, shard, rules);
  return { roots: tagged, further, links, referrers, sinceMs };
}

/**
 * Records of all owners, joined as the owners themselves join them. An owner that lacks one gets it by their comparison,
 * not here.
 */
async function mergedRecords(
  peers: Peers,
  shard: Shard,
  kind: 'links' | 'referrers',
): Promise<readonly OwnRecord[]> {
  const join = kind === 'links' ? joinFields : joinWhole;
  const merged = new Map<string, OwnRecord>();
  for (const id of peers.owners(shard)) {
    const pages = pagesOf<OwnRecord, readonly string[]>(
      async (after) => await peers.records(id, shard, kind, after ?? []),
      ({ key }) => key,
    );
    for await (const record of pages) {
      const key = record.key.join('\n');
      const known = merged.get(key);
      merged.set(key, known === undefined ? record : { ...join(known, record), key: record.key });
      if (merged.size > MAX_LINKS)
        throw refused(`${shard.repository} has more than ${MAX_LINKS} ${kind}`, { ...shard });
    }
  }
  return [...merged.values()];
}

/** Where owners agree on a tag's ballot its value is known; where they do not, a quorum read settles it. */
async function tagRoots(
  deps: { readonly peers: Peers; readonly tags: Pick<Tags, 'state'> },
  shard: Shard,
  { nowMs, graceMs }: MarkRules,
): Promise<ReadonlySet<Digest>> {
  const [first, ...others] = deps.peers.owners(shard);
  const known = new Map<string, { ballot: OwnTag['ballot']; roots: Digest[]; agree: number }>();
  for (const [index, id] of [first!, ...others].entries()) {
    const pages = pagesOf<OwnTag, string>(
      async (after) => await deps.peers.tags(id, shard, after, index > 0),
      ({ tag }) => tag,
    );
    for await (const { tag, ballot, state } of pages) {
      const found = known.get(tag);
      if (found === undefined)
        known.set(tag, { ballot, roots: rootsOf(state, nowMs, graceMs), agree: index === 0 ? 1 : 0 });
      else if (compareBallots(found.ballot, ballot) === 0) found.agree += 1;
    }
  }
  const roots = new Set<Digest>();
  for (const [tag, found] of known) {
    const settled = found.agree === others.length + 1;
    const state = settled ? undefined : await deps.tags.state({ ...shard, tag: tag as Tag });
    for (const digest of settled ? found.roots : rootsOf(state, nowMs, graceMs)) roots.add(digest);
  }
  return roots;
}

/** Entries page by page. */
export async function* pagesOf<E, K>(
  read: (after: K | undefined) => Promise<OwnPage<E>>,
  keyOf: (entry: E) => K,
): AsyncGenerator<E, void, void> {
  for (let after: K | undefined; ; ) {
    const { entries, more } = await read(after);
    yield* entries;
    const last = entries.at(-1);
    if (!more || last === undefined) return;
    after = keyOf(last);
  }
}
