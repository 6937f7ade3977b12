import { ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { type Cluster, shardKey } from '@sepia/cluster/cluster';
import type { RecordStore } from '@sepia/records/store/record-store';
import type { Members } from '../cluster/members.ts';
import { askOwners } from './ask-owners.ts';
import { type MergedPage, mergePages, type OwnPage } from './core/record-merge.ts';
import type { ShardName } from './own-records.ts';
import type { OwnStanding } from './own-standing.ts';

/** Most repositories of one page. */
export const MAX_CATALOG_PAGE = 1_000;
/** A repository with so many tombstones in front of a link counts as not empty. */
const MAX_LOOKED_AT = 1_000;

interface CatalogDeps {
  readonly cluster: Cluster;
  readonly members: Members;
  readonly records: RecordStore;
  readonly standing: Pick<OwnStanding, 'require' | 'sender' | 'requireAll' | 'within'>;
}

/**
 * The repositories of an upstream that have content, from so many origins that none is missed: each one's owners noted
 * it with its first link.
 */
export class Catalog {
  readonly #deps: CatalogDeps;

  constructor(deps: CatalogDeps) {
    this.#deps = deps;
  }

  /** What this origin has on record, behind `after`, for other members. */
  async ownPage(
    upstream: string,
    page: { readonly after?: string | undefined; readonly limit: number },
  ): Promise<OwnPage<string>> {
    const { records, standing } = this.#deps;
    standing.requireAll();
    const entries: string[] = [];
    for await (const { key } of records.repositorySet.list([upstream], defined(page.after))) {
      if (entries.length >= page.limit) return { entries, more: true };
      const repository = key[1]!;
      // What it owned once may be out of date here.
      const { sets } = this.#deps.members.shard(shardKey(upstream, repository));
      if (!sets.flat().includes(this.#deps.members.selfId)) continue;
      if (await this.#hasOwn(upstream, repository)) entries.push(repository);
    }
    return { entries, more: false };
  }

  /** Repositories in order behind `last`, at most `n`. @throws `QUORUM_LOST` */
  async list(
    upstream: string,
    page: { readonly n: number; readonly last?: string | undefined },
  ): Promise<{ repositories: string[]; more: boolean }> {
    const repositories: string[] = [];
    let after = page.last;
    for (;;) {
      const { entries, next } = await this.#page(upstream, after, page.n + 1);
      repositories.push(...entries);
      if (next === undefined || repositories.length > page.n) break;
      after = next;
    }
    return { repositories: repositories.slice(0, page.n), more: repositories.length > page.n };
  }

  /** True if the repository has content, as enough of its owners say. @throws `QUORUM_LOST` */
  async has({ upstream, repository }: ShardName): Promise<boolean> {
    const { members } = this.#deps;
    const call = to(ORIGIN_NAMES.repositories, { upstream, repository });
    const answers = await askOwners(this.#deps, {
      owners: () => members.shard(shardKey(upstream, repository)),
      own: async () => await this.hasOwn({ upstream, repository }),
      other: async (id, under) => {
        const { sender, answer } = await members.counted<{ known: boolean }>(id, { ...call, ...under });
        return { sender, answer: answer.known };
      },
      settles: (found) => found.includes(true),
      lost: () => ({
        message: 'too few origins answer to know this repository',
        detail: { upstream, repository },
      }),
    });
    return answers.includes(true);
  }

  /** As {@link has}, by this origin's records alone, for other members. */
  async hasOwn({ upstream, repository }: ShardName): Promise<boolean> {
    this.#deps.standing.require(this.#deps.members.shard(shardKey(upstream, repository)));
    return await this.#hasOwn(upstream, repository);
  }

  async #page(upstream: string, after: string | undefined, limit: number): Promise<MergedPage<string>> {
    const { cluster, members } = this.#deps;
    const call = to(ORIGIN_NAMES.repositories, { upstream, limit, after });
    // What a write reached is on W origins: one of them is among all but W - 1. Of a shared table one is enough.
    const neededOf = (ids: number): number => Math.max(1, ids - cluster.origins(upstream).writeQuorum + 1);
    const answers = await askOwners<OwnPage<string>>(this.#deps, {
      owners: () => ({ epoch: members.epoch, sets: [members.ids] }),
      own: async () => await this.ownPage(upstream, { after, limit }),
      other: async (id, under) => await members.counted(id, { ...call, ...under }),
      isEnough: (answered, { sets: [ids = []] }) => answered.length >= neededOf(ids.length),
      lost: ({ sets: [ids = []] }) => {
        const needed = neededOf(ids.length);
        return {
          message: `too few origins answer to list repositories; ${needed} of ${ids.length} are needed`,
          detail: { upstream, needed },
        };
      },
    });
    return mergePages(
      answers,
      (name) => name,
      (a) => a,
    );
  }

  async #hasOwn(upstream: string, repository: string): Promise<boolean> {
    let seen = 0;
    for await (const { value } of this.#deps.records.linkSet.entries([upstream, repository])) {
      seen += 1;
      if (value !== undefined || seen >= MAX_LOOKED_AT) return true;
    }
    return false;
  }
}

function defined(after: string | undefined): { readonly after?: string } {
  return after === undefined ? {} : { after };
}
