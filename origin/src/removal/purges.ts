import { askAll, withoutAnswer } from '@sepia/base/async/ask-many';
import { type Digest, isDigest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { RepositoryName, Tag } from '@sepia/base/names/repository';
import { H_HOP } from '@sepia/cluster/api/headers';
import { ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { parseServedManifest } from '@sepia/oci/manifest';
import type { BlobStore } from '@sepia/store/blob-store';
import type { Members } from '../cluster/members.ts';
import type { Others } from '../cluster/others.ts';
import { PURGE_MS } from '../deadlines/members.ts';
import { PURGE_ASK_MS } from '../deadlines/upstreams.ts';
import { closureOf } from '../fence/closure.ts';
import type { StoredManifest } from '../manifests/manifest-cache.ts';
import type { Manifests } from '../manifests/manifests.ts';
import type { LinkEntry, Links } from '../records/links.ts';
import type { TagIndex } from '../records/tag-index.ts';
import type { WaitingManifest } from '../replication/replication-queue.ts';
import { upstreamError } from '../upstream/upstream-failure.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import { dropCached } from './drop-cached.ts';
import type { Invalidation } from './invalidation.ts';
import { type WaitingPushes, waitingPushes } from './waiting-push.ts';

/** Tags of a repository that are looked through for a digest. */
const MAX_TAGS = 10_000;

interface Repository {
  readonly upstream: string;
  readonly repository: RepositoryName;
}

/** What a purge did. `gone`: the upstream does not have the digest any more. `missed`: origins to purge again. */
export interface PurgeResult {
  readonly gone: boolean;
  readonly tags: readonly string[];
  readonly missed: readonly string[];
}

interface PurgesDeps {
  readonly members: Members;
  readonly store: BlobStore;
  readonly links: Links;
  readonly invalidation: Invalidation;
  readonly tagIndex: TagIndex;
  readonly manifests: Manifests;
  readonly replication: WaitingPushes;
  readonly upstreams: Upstreams;
  readonly log: Logger;
}

/** Takes away what an upstream has deleted. The upstream is asked first: word of a deletion may be late, or wrong. */
export class Purges {
  readonly #deps: PurgesDeps;

  constructor(deps: PurgesDeps) {
    this.#deps = deps;
  }

  /**
   * A digest that is gone upstream loses link, cached manifest and memory at every origin; tags that named it, and the
   * one given, are asked for upstream at once. `skip`: only what this origin holds, without asking.
   * @throws `METHOD_UNSUPPORTED` where Sepia itself is the source, `CONFLICT` while a push that names it waits for the registry behind: do it
   * again; `QUORUM_LOST`, `BACKEND_DOWN` and the like when the upstream does not say
   */
  async purge(
    name: Repository,
    what: { readonly digest?: Digest; readonly tag?: Tag },
    others: Others,
  ): Promise<PurgeResult> {
    const { upstreams, members } = this.#deps;
    if (upstreams.client(name.upstream) === undefined)
      throw new CodedError('METHOD_UNSUPPORTED', {
        message: `upstream ${name.upstream} has mode none: nothing behind it could confirm a purge; delete by /v2`,
      });
    const { digest, tag } = what;
    if (others === 'skip') {
      if (digest !== undefined) await this.#purgeHere(name, digest);
      return { gone: digest !== undefined, tags: [], missed: [] };
    }
    const found = digest === undefined ? undefined : await this.#goneThere(name, digest);
    const gone = found !== undefined;
    const tags = new Set<Tag>(tag === undefined ? [] : [tag]);
    if (digest !== undefined && gone) for (const one of await this.#tagsOf(name, digest)) tags.add(one);
    const missed = digest !== undefined && gone ? await this.#purgeEverywhere(name, digest, found.link) : [];
    for (const one of tags) await this.#refresh(name, one);
    this.#deps.log.info({ ...name, digest, gone, tags: [...tags], missed, self: members.selfId }, 'purged');
    return { gone, tags: [...tags], missed };
  }

  /**
   * The link as it is here of what the upstream does not have; undefined for what it has. Where pushes wait for a registry
   * they are looked for before that is asked: one that linked this before has got there, or is seen, and what is linked
   * later is no business of this purge. @throws `CONFLICT` while one waits that names this, or may
   */
  async #goneThere(
    name: Repository,
    digest: Digest,
  ): Promise<{ readonly link: LinkEntry | undefined } | undefined> {
    const { links, upstreams } = this.#deps;
    const keepsPushes = upstreams.keepsPushes(name.upstream);
    const link = keepsPushes ? await links.find({ ...name, digest }, { fresh: true }) : undefined;
    const waiting = await waitingPushes(this.#deps, name);
    if (!(await this.#isGone(name, digest))) return undefined;
    const reference = await this.#needing(name, digest, waiting);
    if (reference === undefined) return { link };
    throw new CodedError('CONFLICT', {
      message: `${name.repository} has a push that awaits write-back: ${reference}`,
      detail: { repository: name.repository, reference },
    });
  }

  /** A push that waits and names the digest, or may. */
  async #needing(
    name: Repository,
    digest: Digest,
    waiting: readonly WaitingManifest[] | 'many',
  ): Promise<string | undefined> {
    if (waiting === 'many') return 'one of many';
    const seen = new Map<string | undefined, boolean>();
    for (const one of waiting) {
      const needs = seen.get(one.digest) ?? (await this.#names(name, one.digest, digest));
      seen.set(one.digest, needs);
      if (needs) return one.reference;
    }
    return undefined;
  }

  /** Whether a manifest leads to a digest; also true where that is not known now. */
  async #names(name: Repository, from: string | undefined, digest: Digest): Promise<boolean> {
    if (from === undefined || !isDigest(from) || from === digest) return true;
    let isUnclear = false;
    const read = async (shard: Repository, one: Digest): Promise<StoredManifest> => {
      try {
        return await this.#deps.manifests.get(shard, { kind: 'digest', digest: one }, 'ask');
      } catch (error) {
        throwIfBug(error);
        isUnclear = true;
        throw error;
      }
    };
    try {
      const { bytes, mediaType } = await read(name, from);
      const { descriptors, subject } = parseServedManifest(bytes, mediaType);
      const below = await closureOf(read, name, descriptors);
      return isUnclear || subject === digest || below.some((one) => one.digest === digest);
    } catch (error) {
      throwIfBug(error);
      return true;
    }
  }

  /** Refused counts as gone: what the upstream does not let us have is not served either. */
  async #isGone(name: Repository, digest: Digest): Promise<boolean> {
    const client = this.#deps.upstreams.client(name.upstream)!;
    const reference = { kind: 'digest', digest } as const;
    try {
      await client.headManifest(
        { repository: name.repository, reference },
        AbortSignal.timeout(PURGE_ASK_MS),
      );
      return false;
    } catch (thrown) {
      const error = upstreamError(thrown, name.upstream);
      if (['MANIFEST_UNKNOWN', 'REPOSITORY_UNKNOWN', 'UPSTREAM_DENIED'].includes(error.code)) return true;
      if (error.code === 'UPSTREAM_POLICY') return false;
      throw error;
    }
  }

  async #tagsOf(name: Repository, digest: Digest): Promise<Tag[]> {
    const found: Tag[] = [];
    for await (const one of this.#deps.tagIndex.list(name, { limit: MAX_TAGS }))
      if (one.digest === digest) found.push(one.tag as Tag);
    return found;
  }

  async #purgeEverywhere(name: Repository, digest: Digest, link: LinkEntry | undefined): Promise<string[]> {
    const { links, invalidation, members, upstreams } = this.#deps;
    if (!upstreams.keepsPushes(name.upstream)) await links.delete(name, [digest]);
    else if (link !== undefined) await links.bury(link);
    await invalidation.broadcast([{ ...name, digest }]);
    const call = {
      ...to(ORIGIN_NAMES.purge, name),
      headers: { [H_HOP]: '1' },
      headersTimeoutMs: PURGE_MS,
      json: { digest },
    };
    const others = members.ids.filter((id) => id !== members.selfId);
    const [told] = await Promise.all([
      askAll(others, async (id) => await members.json(id, call)),
      this.#purgeHere(name, digest),
    ]);
    return withoutAnswer(told);
  }

  async #purgeHere(name: Repository, digest: Digest): Promise<void> {
    const { manifests, store } = this.#deps;
    manifests.forget(digest);
    // What was stored as a manifest has its type, known or not.
    await dropCached(store, name, digest, ({ mediaType }) => mediaType !== undefined);
  }

  /** The tag is asked for upstream: it moves, or is dropped. */
  async #refresh(name: Repository, tag: Tag): Promise<void> {
    try {
      await this.#deps.manifests.get(name, { kind: 'tag', tag }, 'skip', { fresh: true });
    } catch (error) {
      if (!isCoded(error, 'TAG_UNKNOWN')) throw error;
    }
  }
}
