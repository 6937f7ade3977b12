import { type Digest, isDigest } from '@sepia/base/digest';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import { type Ballot, compareBallots } from '@sepia/records/register/register';
import { type RecordStore, tagKey } from '@sepia/records/store/record-store';
import type { Members } from '../cluster/members.ts';
import { askOwners } from './ask-owners.ts';
import { type MergedPage, mergePages, type OwnPage } from './core/record-merge.ts';
import type { ShardName } from './own-records.ts';
import type { OwnStanding } from './own-standing.ts';

/** A tag as one owner's acceptor has it; without digest it was deleted. */
interface TagState {
  readonly tag: string;
  readonly digest?: string;
  /** The registry behind has not heard of it. */
  readonly owed?: true;
  readonly ballot: Ballot;
}

/** A tag that stands. */
export interface ListedTag {
  readonly tag: string;
  readonly digest: Digest;
}

/** A tag that awaits write-back. */
export interface OwedTag {
  readonly tag: string;
  readonly digest?: Digest;
}

/** Most tags in one message. */
export const MAX_TAG_STATES = 10_000;

interface TagIndexDeps {
  readonly members: Members;
  readonly records: RecordStore;
  readonly standing: Pick<OwnStanding, 'require' | 'sender' | 'within'>;
}

/**
 * The tags of a repository, from so many of its owners that no acknowledged tag is missed and none that was deleted
 * comes back: where owners differ, the value that was accepted last stands.
 */
export class TagIndex {
  readonly #deps: TagIndexDeps;

  constructor(deps: TagIndexDeps) {
    this.#deps = deps;
  }

  /** What this origin's acceptors keep, behind the tag `after`, for other members. */
  async ownPage(
    { upstream, repository }: ShardName,
    page: { readonly after?: string | undefined; readonly limit: number },
  ): Promise<OwnPage<TagState>> {
    this.#deps.standing.require(this.#deps.members.shard(shardKey(upstream, repository)));
    const { registers } = this.#deps.records;
    const prefix = tagKey(upstream, repository, '');
    const entries: TagState[] = [];
    for await (const key of registers.keys(prefix, page.after)) {
      if (entries.length >= page.limit) return { entries, more: true };
      const { accepted, value } = await registers.state(key);
      if (accepted.counter === 0) continue;
      const { digest, owed } = partsOf(value);
      const tag = key.slice(prefix.length);
      entries.push({
        tag,
        ...(digest === undefined ? {} : { digest }),
        ...(owed === undefined ? {} : { owed }),
        ballot: accepted,
      });
    }
    return { entries, more: false };
  }

  /** Tags in order behind `after`, at most `limit`. @throws `QUORUM_LOST` */
  async *list(
    shard: ShardName,
    page: { readonly after?: string | undefined; readonly limit?: number } = {},
  ): AsyncGenerator<ListedTag, void, void> {
    let left = page.limit ?? Number.POSITIVE_INFINITY;
    for await (const { tag, digest } of this.#all(shard, page.after, left)) {
      if (digest === undefined || !isDigest(digest)) continue;
      yield { tag, digest };
      left -= 1;
      if (left <= 0) return;
    }
  }

  /** Tags in order behind `after` that await write-back; without digest those that are to go there. @throws `QUORUM_LOST` */
  async *owed(shard: ShardName, after?: string): AsyncGenerator<OwedTag, void, void> {
    for await (const { tag, digest, owed } of this.#all(shard, after, MAX_TAG_STATES))
      if (owed === true) yield digest === undefined || !isDigest(digest) ? { tag } : { tag, digest };
  }

  async *#all(
    shard: ShardName,
    first: string | undefined,
    most: number,
  ): AsyncGenerator<TagState, void, void> {
    const limit = Math.min(MAX_TAG_STATES, most);
    for (let after = first; ; ) {
      const { entries, next } = await this.#page(shard, after, limit);
      yield* entries;
      if (next === undefined) return;
      after = next;
    }
  }

  async #page(shard: ShardName, after: string | undefined, limit: number): Promise<MergedPage<TagState>> {
    const { members } = this.#deps;
    const call = to(ORIGIN_RECORDS.taglist, { ...shard, limit, after });
    const answers = await askOwners<OwnPage<TagState>>(this.#deps, {
      owners: () => members.shard(shardKey(shard.upstream, shard.repository)),
      own: async () => await this.ownPage(shard, { after, limit }),
      other: async (id, under) => await members.counted(id, { ...call, ...under }),
      lost: ({ sets }) => ({
        message: 'too few origins answer to list tags',
        detail: { owners: sets.flat() },
      }),
    });
    return mergePages(
      answers,
      ({ tag }) => tag,
      (a, b) => (compareBallots(a.ballot, b.ballot) >= 0 ? a : b),
    );
  }
}

/** Digest, and whether it is owed, in what a register's acceptors keep of it. */
function partsOf(kept: unknown): { readonly digest?: string; readonly owed?: true } {
  const value = (kept as { value?: { digest?: unknown; owed?: unknown } } | null | undefined)?.value;
  return {
    ...(typeof value?.digest === 'string' ? { digest: value.digest } : {}),
    ...(value?.owed === undefined ? {} : { owed: true }),
  };
}
