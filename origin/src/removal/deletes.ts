import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { Tag } from '@sepia/base/names/repository';
import { isManifestType, parseManifest } from '@sepia/oci/manifest';
import type { Manifests } from '../manifests/manifests.ts';
import type { Links } from '../records/links.ts';
import type { Referrers } from '../records/referrers.ts';
import type { TagIndex } from '../records/tag-index.ts';
import type { TagName, Tags } from '../records/tags.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import type { Invalidation } from './invalidation.ts';
import { takeTags } from './take-tags.ts';

/** Hears of a tag that was taken away here. */
export interface TagDeletions {
  /** @throws `QUORUM_LOST` */
  deleted(name: Pick<TagName, 'upstream' | 'repository'>, tag: string): Promise<void>;
}

interface DeletesDeps {
  readonly links: Links;
  readonly tags: Tags;
  readonly tagIndex: TagIndex;
  readonly manifests: Manifests;
  readonly referrers: Referrers;
  readonly replication: TagDeletions;
  readonly invalidation: Invalidation;
  readonly upstreams: Upstreams;
  readonly log: Logger;
}

/**
 * Deletes of tags, manifests and blobs where Sepia is the source of truth. What goes are records, durably on a quorum
 * before anybody is told; bytes stay on disk. Content may be pushed again at once.
 */
export class Deletes {
  readonly #deps: DeletesDeps;

  constructor(deps: DeletesDeps) {
    this.#deps = deps;
  }

  /** The manifest stays. @throws `METHOD_UNSUPPORTED`, `TAG_UNKNOWN`, `TAG_IMMUTABLE`, `QUORUM_LOST`, `CONFLICT` */
  async tag(name: TagName, change?: string): Promise<void> {
    this.#check(name.upstream);
    this.#checkMovable(name, await this.#deps.tags.read(name));
    if (await this.#deps.tags.delete(name, undefined, 'delete', change))
      return await this.#deps.replication.deleted(name, name.tag);
    throw new CodedError('TAG_UNKNOWN', { detail: { repository: name.repository, tag: name.tag } });
  }

  /**
   * Goes with the tags that point at it (one that is moved meanwhile stays) and its entry under its subject. Its link
   * goes last, so that a delete that was cut can be repeated. What names it as subject stays. `byOperator`: immutable
   * tags go as well.
   * @throws `METHOD_UNSUPPORTED`, `MANIFEST_UNKNOWN`, `TAG_IMMUTABLE`, `QUORUM_LOST`, `CONFLICT`, `TIMEOUT` when so many
   * tags point at it that it must be repeated
   */
  async manifest(name: BlobName, byOperator = false): Promise<void> {
    this.#check(name.upstream);
    const { links, manifests, referrers } = this.#deps;
    const link = await links.find(name, { fresh: true });
    if (link === undefined)
      throw new CodedError('MANIFEST_UNKNOWN', {
        detail: { reference: name.digest, repository: name.repository },
      });
    let subject: Digest | undefined;
    try {
      subject = subjectOf((await manifests.get(name, { kind: 'digest', digest: name.digest }, false)).bytes);
    } catch (error) {
      // Its bytes are lost: the link of a manifest goes all the same, that of a blob is not meant.
      if (!isCoded(error, 'MANIFEST_UNKNOWN') || !isManifestType(link.mediaType ?? '')) throw error;
    }
    const tags: Tag[] = [];
    for await (const { tag, digest } of this.#deps.tagIndex.list(name)) {
      if (digest !== name.digest) continue;
      if (!byOperator) this.#checkMovable({ ...name, tag: tag as Tag }, { digest });
      tags.push(tag as Tag);
    }
    await takeTags(tags, async (tag) => {
      const isGone = await this.#deps.tags.delete({ ...name, tag }, name.digest);
      if (isGone) await this.#deps.replication.deleted(name, tag);
      return isGone;
    });
    if (subject !== undefined) await referrers.delete(name, subject);
    await this.#unlink(name);
  }

  /** Only this repository's link goes. @throws `METHOD_UNSUPPORTED`, `BLOB_UNKNOWN`, `QUORUM_LOST`, `CONFLICT` */
  async blob(name: BlobName): Promise<void> {
    this.#check(name.upstream);
    if ((await this.#deps.links.find(name, { fresh: true })) === undefined)
      throw new CodedError('BLOB_UNKNOWN', { detail: { digest: name.digest, repository: name.repository } });
    await this.#unlink(name);
  }

  /** A tag that is deleted could be pushed anew: an immutable one goes by an operator's word alone. */
  #checkMovable(name: TagName, record: { readonly digest: Digest } | undefined): void {
    if (record === undefined || this.#deps.upstreams.tagRules(name).policy !== 'immutable') return;
    throw new CodedError('TAG_IMMUTABLE', {
      message: `${name.tag} is immutable and stays; an operator takes it away with sepia purge`,
      detail: { tag: name.tag, digest: record.digest },
    });
  }

  async #unlink({ upstream, repository, digest }: BlobName): Promise<void> {
    const { links, invalidation, log } = this.#deps;
    await links.delete({ upstream, repository }, [digest]);
    await invalidation.broadcast([{ upstream, repository, digest }]);
    log.info({ upstream, repository, digest }, 'deleted');
  }

  #check(upstream: string): void {
    const { mode } = this.#deps.upstreams.get(upstream);
    if (!this.#deps.upstreams.takesDeletes(upstream)) throw notDeletable(upstream, mode);
  }
}

/** The error of a delete where another registry is the source of truth. */
function notDeletable(upstream: string, mode: string): CodedError {
  return new CodedError('METHOD_UNSUPPORTED', {
    message: `upstream ${upstream} has mode ${mode}: what it has is deleted at the registry behind it`,
    detail: { upstream, mode },
  });
}

function subjectOf(bytes: Uint8Array): Digest | undefined {
  try {
    return parseManifest(bytes, undefined).subject;
  } catch (error) {
    throwIfBug(error);
    return undefined;
  }
}
