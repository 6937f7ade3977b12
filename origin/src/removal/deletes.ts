import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { Tag } from '@sepia/base/names/repository';
import { writeBackOf } from '@sepia/cluster/write-back';
import { isKnownType, MAX_MANIFEST_BYTES, type ParsedManifest, parseManifest } from '@sepia/oci/manifest';
import { clockOf, type ToldClocks } from '@sepia/records/core/set-protocol';
import type { ReadManifest } from '../fence/closure.ts';
import type { Manifests } from '../manifests/manifests.ts';
import type { LinkEntry, Links } from '../records/links.ts';
import type { Referrers } from '../records/referrers.ts';
import type { TagIndex } from '../records/tag-index.ts';
import { type TagName, type Tags, unknownTag } from '../records/tags.ts';
import type { RegistryBehind } from '../upstream/registry-behind.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import type { Invalidation } from './invalidation.ts';
import { isNamedBelow } from './named-below.ts';
import { takeTags } from './take-tags.ts';

/** Pushes that move tags to a manifest while it is deleted are overtaken this often. */
const MAX_TRIES = 5;

/** Is told of what goes before it does: whoever dies in between leaves word of it. */
export interface TagDeletions {
  /**
   * A tag or a manifest is about to go that the registry behind may have, or that rules take away elsewhere. Call what it
   * returns when it has gone.
   * @throws `QUORUM_LOST`
   */
  intendDelete(
    name: Pick<TagName, 'upstream' | 'repository'>,
    reference: string,
  ): Promise<() => Promise<void>>;
  /** As `intendDelete`, of a tag that the registry behind keeps. @throws `QUORUM_LOST` */
  intendPurge(name: Pick<TagName, 'upstream' | 'repository'>, tag: string): Promise<() => Promise<void>>;
}

/** How a delete was asked for, where other origins may be asked for the same. */
interface Asked {
  /** Id of the change, the same at every origin: what one of them has done no other does again. */
  readonly change?: string | undefined;
  /** Aborted when nobody waits for this origin's answer any more. */
  readonly signal?: AbortSignal | undefined;
}

interface DeletesDeps {
  readonly links: Links;
  readonly tags: Tags;
  readonly tagIndex: TagIndex;
  readonly manifests: Manifests;
  readonly referrers: Referrers;
  readonly replication: TagDeletions;
  readonly behind: Pick<RegistryBehind, 'look'>;
  readonly invalidation: Invalidation;
  readonly upstreams: Upstreams;
  readonly log: Logger;
}

/**
 * Deletes of tags, manifests and blobs where Sepia is the source of truth. What goes are records, durably on a quorum
 * before anybody is told; bytes stay on disk. Content may be pushed again at once: an origin that stops in the middle of a
 * delete and goes on when another one did it takes nothing that came since.
 */
export class Deletes {
  readonly #deps: DeletesDeps;

  constructor(deps: DeletesDeps) {
    this.#deps = deps;
  }

  /** The manifest stays. @throws `METHOD_UNSUPPORTED`, `TAG_UNKNOWN`, `TAG_IMMUTABLE`, `QUORUM_LOST`, `CONFLICT` */
  async tag(name: TagName, asked: Asked = {}): Promise<void> {
    this.#check(name.upstream);
    const record = await this.#record(name);
    this.#checkMovable(name, record);
    // Of what was pushed since it was asked for.
    asked.signal?.throwIfAborted();
    if (record !== undefined && (await this.#take(name, undefined, asked))) return;
    throw unknownTag(name);
  }

  /** The tag as it is here; if it is not known here and the upstream has a registry behind, as it is there. */
  async #record(name: TagName): Promise<{ readonly digest: Digest } | undefined> {
    const { tags, upstreams, manifests } = this.#deps;
    const record = await tags.read(name, { isPatient: true });
    if (record !== undefined || upstreams.client(name.upstream) === undefined) return record;
    await manifests.get(name, { kind: 'tag', tag: name.tag }, 'ask');
    return await tags.read(name, { isPatient: true });
  }

  /** Deletes a tag, only while it points at `digest` if one is given. False if there was nothing to delete. */
  async #take(name: TagName, digest?: Digest, asked: Asked = {}): Promise<boolean> {
    const { tags, replication, behind, upstreams } = this.#deps;
    const done = await replication.intendDelete(name, name.tag);
    const isAlone = upstreams.client(name.upstream) === undefined;
    const of = isAlone ? {} : { behind: { has: await behind.look(name) } };
    const isGone = await tags.delete(name, digest, 'delete', { ...asked, ...of });
    await done();
    return isGone;
  }

  /**
   * Goes with the tags that point at it (one that is moved meanwhile stays) and its entry under its subject. Then its
   * link goes, and then the tags that a push moved to it meanwhile, unless that linked it anew: see `keepLinked`. A
   * delete that was cut can be repeated. What names it as subject stays. `byOperator`: immutable tags, and what they
   * name, go as well.
   * @throws `METHOD_UNSUPPORTED`, `MANIFEST_UNKNOWN`, `TAG_IMMUTABLE`, `QUORUM_LOST`, `CONFLICT` when it was linked anew
   * meanwhile, `TIMEOUT` when so many tags point at it that it must be repeated, or the immutable ones are too many to look
   * through
   */
  async manifest(name: BlobName, byOperator = false, asked: Asked = {}): Promise<void> {
    this.#check(name.upstream);
    if (this.#deps.upstreams.client(name.upstream) === undefined)
      return await this.#manifest(name, byOperator, asked);
    const done = await this.#deps.replication.intendDelete(name, name.digest);
    await this.#manifest(name, byOperator, asked);
    await done();
  }

  async #manifest(name: BlobName, byOperator: boolean, asked: Asked): Promise<void> {
    const { links, referrers } = this.#deps;
    let link = await links.find(name, { fresh: true });
    let tags = await this.#tagsOf(name, byOperator);
    // Without link tags are what a delete left that was cut.
    if (link === undefined && tags.length === 0)
      throw new CodedError('MANIFEST_UNKNOWN', {
        detail: { reference: name.digest, repository: name.repository },
      });
    const subject = link && (await this.#subjectOf(name, link));
    let atMs = links.seenMs();
    // To read it may have linked it anew, as a registry showed it.
    if (link !== undefined) link = await links.find(name, { fresh: true });
    // Of what was linked since it was asked for.
    asked.signal?.throwIfAborted();
    const looked = await this.#checkNotKept(name, byOperator);
    for (let tries = 1; ; tries++) {
      await this.#takeTags(name, tags, asked.change && `${asked.change}.${tries}`);
      const read = tries === 1 ? link : undefined;
      if (subject !== undefined)
        await this.#asRead(name, read, atMs, async (ms) => await referrers.deleteAt(name, subject, ms));
      await this.#asRead(name, read, atMs, async (ms) => await this.#unlink(name, link, looked, ms));
      atMs = links.seenMs();
      tags = await this.#tagsOf(name, byOperator);
      if (tags.length === 0 || (await links.find(name, { fresh: true })) !== undefined) return;
      if (tries >= MAX_TRIES)
        throw new CodedError('CONFLICT', { detail: { digest: name.digest, tags: tags.length, tries } });
    }
  }

  /**
   * Only this repository's link goes. A manifest is no blob here: it goes by its own route, with tags and referrers.
   * `byOperator`: whatever it is, and whoever names it.
   * @throws `METHOD_UNSUPPORTED`, `BLOB_UNKNOWN`, `TAG_IMMUTABLE` when an immutable tag's image names it, `QUORUM_LOST`,
   * `CONFLICT`, `TIMEOUT` when the immutable tags are too many to look through
   */
  async blob(name: BlobName, byOperator = false, { signal }: Asked = {}): Promise<void> {
    this.#check(name.upstream);
    const atMs = this.#deps.links.seenMs();
    const detail = { digest: name.digest, repository: name.repository };
    const link = await this.#deps.links.find(name, { fresh: true });
    signal?.throwIfAborted();
    if (link === undefined) throw new CodedError('BLOB_UNKNOWN', { detail });
    if (!byOperator) {
      if (await this.#isManifest(name, link))
        throw new CodedError('BLOB_UNKNOWN', {
          message: `${name.digest} is a manifest and no blob; delete it at manifests/${name.digest}`,
          detail,
        });
    }
    const looked = await this.#checkNotKept(name, byOperator);
    await this.#asRead(name, link, atMs, async (clockMs) => await this.#unlink(name, link, looked, clockMs));
  }

  /**
   * Has `take` leave a tombstone at the clock `begunMs`, of before the link was read; or at one that is later than what stood
   * in its way, while the link is the one that was read. @throws `CONFLICT` when it was linked anew
   */
  async #asRead(
    name: BlobName,
    link: LinkEntry | undefined,
    begunMs: number,
    take: (atMs: number) => Promise<void>,
  ): Promise<void> {
    const { links } = this.#deps;
    let atMs = begunMs;
    for (let tries = 1; ; tries++) {
      try {
        return await take(Math.max(atMs, link?.atMs ?? 0));
      } catch (error) {
        if (!isCoded(error, 'CONFLICT') || tries >= MAX_TRIES) throw error;
        const { behindMs } = error.detail as ToldClocks;
        atMs = clockOf(links.seenMs(), { behindMs });
        const found = await links.find(name, { fresh: true });
        if (found?.atMs !== link?.atMs) throw error;
      }
    }
  }

  /** Tags that point at a manifest. @throws `TAG_IMMUTABLE` */
  async #tagsOf(name: BlobName, byOperator: boolean): Promise<Tag[]> {
    const tags: Tag[] = [];
    for await (const { tag, digest } of this.#deps.tagIndex.list(name)) {
      if (digest !== name.digest) continue;
      if (!byOperator) this.#checkMovable({ ...name, tag: tag as Tag }, { digest });
      tags.push(tag as Tag);
    }
    return tags;
  }

  async #takeTags(name: BlobName, tags: readonly Tag[], change: string | undefined): Promise<void> {
    await takeTags(tags, async (tag) => await this.#take({ ...name, tag }, name.digest, { change }));
  }

  async #subjectOf(name: BlobName, link: LinkEntry): Promise<Digest | undefined> {
    try {
      const reference = { kind: 'digest', digest: name.digest } as const;
      const { bytes } = await this.#deps.manifests.get(name, reference, 'ask');
      return parsedOf(bytes)?.subject;
    } catch (error) {
      // Its bytes are lost: the link of a manifest goes all the same, that of a blob is not meant.
      if (!isCoded(error, 'MANIFEST_UNKNOWN') || !isKnownType(link.mediaType ?? '')) throw error;
      return undefined;
    }
  }

  /**
   * Whatever its link says (an index gives any type to what it names): a known kind, or one that names something or has
   * a tag. Other JSON that is served as a manifest may as well be a layer with a `mediaType` of its own.
   */
  async #isManifest(name: BlobName, link: LinkEntry): Promise<boolean> {
    if ((link.sizeBytes ?? 0) > MAX_MANIFEST_BYTES) return false;
    try {
      const reference = { kind: 'digest', digest: name.digest } as const;
      const { bytes, mediaType } = await this.#deps.manifests.get(name, reference, 'ask');
      const parsed = parsedOf(bytes);
      const isNaming =
        parsed !== undefined && (parsed.descriptors.length > 0 || parsed.subject !== undefined);
      if (isKnownType(mediaType) || isNaming) return true;
      for await (const { digest } of this.#deps.tagIndex.list(name)) if (digest === name.digest) return true;
      return false;
    } catch (error) {
      if (isCoded(error, 'MANIFEST_UNKNOWN')) return false;
      // An origin that may have the bytes is silent: the link's type is what is left to tell.
      if (isCoded(error, 'QUORUM_LOST')) return isKnownType(link.mediaType ?? '');
      throw error;
    }
  }

  /**
   * What the image of an immutable tag names goes by an operator's word alone. Returns the images that do not name it,
   * to be passed over when it is called again; undefined for an operator.
   */
  async #checkNotKept(
    name: BlobName,
    byOperator: boolean,
    looked: ReadonlySet<Digest> = new Set(),
  ): Promise<ReadonlySet<Digest> | undefined> {
    const { upstreams, tagIndex, manifests } = this.#deps;
    if (byOperator) return undefined;
    if (!upstreams.mayKeepTags(name)) return looked;
    const roots = new Set<Digest>();
    for await (const { tag, digest } of tagIndex.list(name))
      if (upstreams.tagRules({ ...name, tag }).policy === 'immutable') roots.add(digest);
    const read: ReadManifest = async (shard, digest) =>
      await manifests.get(shard, { kind: 'digest', digest }, 'ask');
    const fresh = [...roots].filter((root) => !looked.has(root));
    if (!roots.has(name.digest) && !(await isNamedBelow(read, name, fresh, name.digest))) return roots;
    throw new CodedError('TAG_IMMUTABLE', {
      message: `${name.digest} belongs to the image of an immutable tag and stays; an operator takes it away with sepia purge`,
      detail: { digest: name.digest },
    });
  }

  /** A tag that is deleted could be pushed anew: an immutable one goes by an operator's word alone. */
  #checkMovable(name: TagName, record: { readonly digest: Digest } | undefined): void {
    if (record === undefined || this.#deps.upstreams.tagRules(name).policy !== 'immutable') return;
    throw new CodedError('TAG_IMMUTABLE', {
      message: `${name.tag} is immutable and stays; an operator takes it away with sepia purge`,
      detail: { tag: name.tag, digest: record.digest },
    });
  }

  /**
   * @param looked as {@link #checkNotKept} returned it: what an immutable tag was moved to meanwhile is linked again
   * @throws `TAG_IMMUTABLE`
   */
  async #unlink(
    name: BlobName,
    link: LinkEntry | undefined,
    looked: ReadonlySet<Digest> | undefined,
    atMs: number,
  ): Promise<void> {
    const { upstream, repository, digest } = name;
    const { links, invalidation, log } = this.#deps;
    await links.deleteAt(name, atMs);
    await invalidation.broadcast([{ upstream, repository, digest }]);
    try {
      await this.#checkNotKept(name, looked === undefined, looked);
    } catch (error) {
      if (link !== undefined && isCoded(error)) await links.write([link]);
      throw error;
    }
    log.info({ upstream, repository, digest }, 'deleted');
  }

  #check(upstream: string): void {
    const found = this.#deps.upstreams.get(upstream);
    if (!this.#deps.upstreams.takesDeletes(upstream)) throw notDeletable(upstream, `mode ${found.mode}`);
    if (writeBackOf(found)?.deletes === false) throw notDeletable(upstream, 'write-back.deletes: false');
  }
}

/** The error of a delete where another registry is the source of truth. */
function notDeletable(upstream: string, why: string): CodedError {
  return new CodedError('METHOD_UNSUPPORTED', {
    message: `upstream ${upstream} has ${why}: what it has is deleted at the registry behind it`,
    detail: { upstream },
  });
}

function parsedOf(bytes: Uint8Array): ParsedManifest | undefined {
  try {
    return parseManifest(bytes, undefined);
  } catch (error) {
    throwIfBug(error);
    return undefined;
  }
}
