import { randomUUID } from 'node:crypto';
import { askAll, withoutAnswer } from '@sepia/base/async/ask-many';
import { type Digest, isDigest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { RepositoryName, Tag } from '@sepia/base/names/repository';
import { ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import type { NodeCommands } from '@sepia/cluster/node-commands';
import { isKnownType, parseManifest } from '@sepia/oci/manifest';
import type { Link } from '@sepia/records/store/record-store';
import type { BlobStore } from '@sepia/store/blob-store';
import type { Members } from '../cluster/members.ts';
import { DROP_MS, REMOVAL_COMMAND_MS } from '../deadlines/members.ts';
import type { Manifests } from '../manifests/manifests.ts';
import type { Links } from '../records/links.ts';
import type { QuorumSet } from '../records/quorum-set.ts';
import type { TagIndex } from '../records/tag-index.ts';
import type { Tags } from '../records/tags.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import type { Deletes, TagDeletions } from './deletes.ts';
import { dropCached } from './drop-cached.ts';
import type { Invalidation } from './invalidation.ts';
import { takeTags } from './take-tags.ts';
import { type WaitingPushes, waitingPush } from './waiting-push.ts';

/** Digests in one message. */
export const MAX_DROPPED = 1_000;
const MAX_DEPTH = 8;
/** Pushes bring content back while a repository is removed this often. */
const MAX_TRIES = 5;

type Repository = { readonly upstream: string; readonly repository: RepositoryName };

/** What a removal did. `missed`: origins that keep cached copies, trackers whose nodes may, until it is repeated. */
export interface Removed {
  readonly tags: readonly string[];
  readonly digests: number;
  readonly missed: readonly string[];
}

interface RemovalsDeps {
  readonly members: Members;
  readonly store: BlobStore;
  readonly links: Links;
  readonly linkSet: QuorumSet<Link>;
  readonly tags: Tags;
  readonly tagIndex: TagIndex;
  readonly manifests: Manifests;
  readonly deletes: Deletes;
  readonly replication: TagDeletions & WaitingPushes;
  readonly invalidation: Invalidation;
  readonly upstreams: Upstreams;
  readonly commands: Pick<NodeCommands, 'send' | 'trackerIds'>;
  readonly log: Logger;
}

/**
 * Takes content away by an operator's word, without asking the upstream: tags (also immutable and pinned ones), links,
 * cached copies, and what origins, proxies and agents remember. Records first, durably on a quorum; then all are told.
 * In pull-through what is still upstream comes back when it is asked for; of mode none it is a delete.
 */
export class Removals {
  readonly #deps: RemovalsDeps;

  constructor(deps: RemovalsDeps) {
    this.#deps = deps;
  }

  /**
   * A tag, a digest, or (neither) a whole repository. `signal`: aborted when nobody waits for this origin's answer any more; who
   * finds so after its look takes nothing.
   * @throws `QUORUM_LOST`, `CONFLICT`, `MANIFEST_UNKNOWN` of mode none, `TIMEOUT`: repeat it
   */
  async remove(
    name: Repository,
    what: { readonly tag?: Tag; readonly digest?: Digest },
    signal?: AbortSignal,
  ): Promise<Removed> {
    const { upstreams, deletes } = this.#deps;
    await this.#checkPaid(name);
    const isSource = upstreams.client(name.upstream) === undefined;
    const { tag, digest } = what;
    const tags: string[] = [];
    const digests = new Set<Digest>();
    let root = digest;
    if (tag !== undefined) {
      const record = await this.#deps.tags.read({ ...name, tag }, { isPatient: true });
      signal?.throwIfAborted();
      if (record !== undefined && (await this.#removeTag(name, tag, { signal }))) tags.push(tag);
      root = record?.digest;
      if (root !== undefined && !isSource) await this.#tree(name, root, digests, 0);
    } else if (digest !== undefined && isSource) {
      await deletes.manifest({ ...name, digest }, true, { signal }).catch(async (error: unknown) => {
        if (!isCoded(error, 'MANIFEST_UNKNOWN')) throw error;
        await deletes.blob({ ...name, digest }, true, { signal });
      });
      return { tags, digests: 1, missed: await this.#tellNodes(name, what) };
    } else if (digest !== undefined) {
      const listed = await this.#listed(name, digest);
      signal?.throwIfAborted();
      tags.push(...(await this.#take(name, listed)));
      await this.#tree(name, digest, digests, 0);
    } else return await this.#repository(name, isSource, signal);
    return await this.#done(name, what, {
      tags,
      digests: digests.size,
      missed: await this.#forget(name, [...digests], await this.#unlinked(name, root, digests)),
    });
  }

  /** What the registry behind has not got yet would be lost for good. */
  async #checkPaid(name: Repository): Promise<void> {
    const reference = await waitingPush(this.#deps, name);
    if (reference !== undefined) throw unpaid(name, reference);
  }

  /**
   * All of a repository. Of mode none what a push beside it left goes as well, until a look finds nothing: a push writes
   * links, then its tag, and looks for its links once more, so that neither is left without the other.
   * @throws `CONFLICT` while pushes go on
   */
  async #repository(name: Repository, isSource: boolean, signal?: AbortSignal): Promise<Removed> {
    const { upstreams } = this.#deps;
    const tags = new Set<string>();
    const digests = new Set<Digest>();
    const missed = new Set<string>();
    for (let tries = 1; ; tries++) {
      const listed = await this.#listed(name);
      const linked: Digest[] = [];
      const unlinked: Digest[] = [];
      for await (const { digest, isManifest } of this.#linked(name)) {
        linked.push(digest);
        // Whoever asks for a manifest there again may have it from elsewhere: nothing would show its blobs then.
        if (isManifest || !upstreams.keepsPushes(name.upstream)) unlinked.push(digest);
      }
      if (tries === 1) signal?.throwIfAborted();
      if (tries > 1 && listed.size === 0 && linked.length === 0) break;
      if (tries > MAX_TRIES)
        throw new CodedError('CONFLICT', {
          message: `content is pushed to ${name.repository} while it is removed; end the pushes, then repeat it`,
          detail: { tags: listed.size, digests: linked.length, tries: MAX_TRIES },
        });
      for (const one of await this.#take(name, listed)) tags.add(one);
      for (const one of linked) digests.add(one);
      for (const id of await this.#forget(name, linked, unlinked)) missed.add(id);
      if (!isSource) break;
    }
    return await this.#done(name, {}, { tags: [...tags], digests: digests.size, missed: [...missed] });
  }

  async #done(
    name: Repository,
    what: { readonly tag?: Tag; readonly digest?: Digest },
    { tags, digests, missed: origins }: Removed,
  ): Promise<Removed> {
    const missed = [...origins, ...(await this.#tellNodes(name, what))];
    this.#deps.log.info({ ...name, ...what, tags: tags.length, digests, missed }, 'removed');
    return { tags, digests, missed };
  }

  /** Tags of a repository, or those that point at `digest`. */
  async #listed(name: Repository, digest?: Digest): Promise<ReadonlyMap<Tag, Digest>> {
    const listed = new Map<Tag, Digest>();
    for await (const one of this.#deps.tagIndex.list(name))
      if (digest === undefined || one.digest === digest) listed.set(one.tag as Tag, one.digest);
    return listed;
  }

  /** One that is moved meanwhile stays. Returns what was taken. */
  async #take(name: Repository, listed: ReadonlyMap<Tag, Digest>): Promise<Tag[]> {
    return await takeTags([...listed.keys()], (one) =>
      this.#removeTag(name, one, { digest: listed.get(one) }),
    );
  }

  /** Cached copies that no other repository brought go here. */
  async drop(name: Repository, digests: readonly Digest[]): Promise<number> {
    const { manifests, store } = this.#deps;
    let dropped = 0;
    for (const digest of digests) {
      manifests.forget(digest);
      if (await dropCached(store, name, digest)) dropped += 1;
    }
    return dropped;
  }

  async #removeTag(
    name: Repository,
    tag: Tag,
    { digest, signal }: { readonly digest?: Digest | undefined; readonly signal?: AbortSignal | undefined },
  ): Promise<boolean> {
    const done = await this.#deps.replication.intendPurge(name, tag);
    const isGone = await this.#deps.tags.delete({ ...name, tag }, digest, 'purge', { signal });
    await done();
    return isGone;
  }

  /**
   * Whose links go. Where a deleted link hides what the registry behind has, only the manifest's own, and only if no tag points
   * at it any more: other images of the repository may name the rest.
   */
  async #unlinked(
    name: Repository,
    root: Digest | undefined,
    digests: ReadonlySet<Digest>,
  ): Promise<readonly Digest[]> {
    if (root === undefined || !this.#deps.upstreams.keepsPushes(name.upstream)) return [...digests];
    return (await this.#listed(name, root)).size > 0 ? [] : [root];
  }

  /** A manifest and all that it names, as far as that is known here or upstream. */
  async #tree(name: Repository, digest: Digest, found: Set<Digest>, depth: number): Promise<void> {
    if (found.has(digest)) return;
    found.add(digest);
    if (depth > MAX_DEPTH) return;
    try {
      const { bytes } = await this.#deps.manifests.get(name, { kind: 'digest', digest }, 'ask');
      for (const one of parseManifest(bytes, undefined).descriptors)
        if (one.kind === 'child') await this.#tree(name, one.digest, found, depth + 1);
        else found.add(one.digest);
    } catch (error) {
      if (!isCoded(error)) throw error;
    }
  }

  async *#linked(
    name: Repository,
  ): AsyncGenerator<{ readonly digest: Digest; readonly isManifest: boolean }> {
    let after: string | undefined;
    for (;;) {
      const page = await this.#deps.linkSet.page(name, [], { after, limit: MAX_DROPPED });
      for (const { key, value } of page.entries) {
        const digest = key.at(-1) ?? '';
        if (value !== undefined && isDigest(digest))
          yield { digest, isManifest: isKnownType(value.mediaType ?? '') };
      }
      after = page.next;
      if (after === undefined) return;
    }
  }

  /**
   * Nodes hear of digests by revocations; what they know beyond the records (tags as last seen, copies whose links are
   * gone already) goes by command. Returns trackers that did not take it.
   */
  async #tellNodes(
    name: Repository,
    what: { readonly tag?: Tag; readonly digest?: Digest },
  ): Promise<string[]> {
    const { commands, log } = this.#deps;
    const detail = { upstream: name.upstream, repository: name.repository, ...what };
    const id = `purge-${randomUUID()}`;
    try {
      return await commands.send({ id, type: 'purge', detail, ttlMs: REMOVAL_COMMAND_MS });
    } catch (error) {
      throwIfBug(error);
      log.warn({ err: error, ...detail }, 'no tracker passes a purge on to the nodes');
      return commands.trackerIds;
    }
  }

  async #forget(
    name: Repository,
    digests: readonly Digest[],
    unlinked: readonly Digest[],
  ): Promise<string[]> {
    const { links, invalidation, members } = this.#deps;
    const missed = new Set<string>();
    const gone = new Set(unlinked);
    for (let at = 0; at < digests.length; at += MAX_DROPPED) {
      const part = digests.slice(at, at + MAX_DROPPED);
      await links.delete(
        name,
        part.filter((digest) => gone.has(digest)),
      );
      await invalidation.broadcast(part.map((digest) => ({ ...name, digest })));
      const dropped = to(ORIGIN_NAMES.removalDrop, name);
      const call = { ...dropped, json: { digests: part }, headersTimeoutMs: DROP_MS };
      const others = members.ids.filter((id) => id !== members.selfId);
      const [told] = await Promise.all([
        askAll(others, async (id) => await members.json(id, call)),
        this.drop(name, part),
      ]);
      for (const id of withoutAnswer(told)) missed.add(id);
    }
    return [...missed];
  }
}

function unpaid({ repository }: Repository, reference: string): CodedError {
  const at = isDigest(reference) ? '@' : ':';
  return new CodedError('METHOD_UNSUPPORTED', {
    message: `${repository}${at}${reference} awaits write-back; purge after "sepia write-back drain", or delete it`,
    detail: { repository, reference },
  });
}
