import { SingleFlight } from '@sepia/base/async/single-flight';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { logFailure, throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { withinMemory } from '@sepia/base/memory/process-memory';
import { type BlobName, linkKey } from '@sepia/base/names/blob-name';
import type { RepositoryName, Tag } from '@sepia/base/names/repository';
import { H_CLASS, H_MEDIA_TYPE } from '@sepia/cluster/api/headers';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import {
  claimsToBeManifest,
  isManifestType,
  MAX_MANIFEST_BYTES,
  type ParsedManifest,
  parseManifest,
} from '@sepia/oci/manifest';
import type { Reference } from '@sepia/oci/route';
import type { Blobs } from '../blobs/blobs.ts';
import { doubtUnknown } from '../blobs/doubt-unknown.ts';
import type { Repair } from '../blobs/repair.ts';
import type { CachedCopies } from '../cached/cached-copies.ts';
import type { Members } from '../cluster/members.ts';
import type { Others } from '../cluster/others.ts';
import { MANIFEST_COPY_MS } from '../deadlines/members.ts';
import { MANIFEST_BODY_MS, REVALIDATE_MS } from '../deadlines/upstreams.ts';
import type { ReadManifest } from '../fence/closure.ts';
import type { LinkProofs } from '../proofs/link-proofs.ts';
import { isTakenAway, recordOf, type TagRecord, type TagState } from '../records/core/tag-record.ts';
import type { LinkEntry } from '../records/links.ts';
import { isQuorumProblem, type Seen, type TagName, unknownTag } from '../records/tags.ts';
import { decideTag, mayAsk, staleAge } from '../upstream/core/tag-policy.ts';
import { isPassing, upstreamError } from '../upstream/upstream-failure.ts';
import { askLeader } from './ask-leader.ts';
import { ManifestCache, type StoredManifest } from './manifest-cache.ts';
import { manifestOfOthers } from './manifest-of-others.ts';
import {
  descriptorLinks,
  type ManifestPush,
  type PushDeps,
  type PushIntents,
  pushManifest,
} from './manifest-push.ts';
import { manifestFromBackend } from './manifest-readback.ts';
import { type Recheck, whoseLogin } from './recheck.ts';

/** A manifest as a request gets it. */
export interface ManifestAnswer extends StoredManifest {
  /** Age in seconds, when the upstream did not confirm the tag. */
  readonly staleSeconds?: number;
}

const CACHE_BYTES = 64 * 1024 * 1024;

/** How a manifest is asked for. */
export interface ManifestWish {
  /** Ask the upstream now, however fresh the record is. */
  readonly fresh?: boolean | undefined;
  /** `Authorization` that a caller brought for the upstream. */
  readonly authorization?: string | undefined;
  /** Aborted when who asks has left: a question that waits for its turn at the upstream is given up, if it is nobody else's too. */
  readonly signal?: AbortSignal | undefined;
}

/** Beside what a push needs, of which it makes two parts itself: what finds and checks manifests. */
interface ManifestsDeps extends Omit<PushDeps, 'read' | 'sizeOf'> {
  readonly members: Members;
  readonly blobs: Blobs;
  readonly cachedCopies: Pick<CachedCopies, 'lookAfter'>;
  readonly proofs: LinkProofs;
  readonly recheck: Recheck;
  readonly repair: Pick<Repair, 'noteRotten'>;
  readonly replication: PushIntents & {
    /** A change of that tag or manifest waits for the registry behind. */
    isOwed(name: Pick<BlobName, 'upstream' | 'repository'>, reference: string): Promise<boolean>;
  };
  readonly log: Logger;
  readonly nowMs: () => number;
}

/** Manifests: resolved by tag under the upstream's policy, found by digest, pushed. */
export class Manifests {
  readonly #deps: ManifestsDeps;
  readonly #cache = new ManifestCache(withinMemory(CACHE_BYTES));
  readonly #flights = new SingleFlight<string, ManifestAnswer>();

  constructor(deps: ManifestsDeps) {
    this.#deps = deps;
  }

  /** @throws `TAG_UNKNOWN`, `MANIFEST_UNKNOWN`, `QUORUM_LOST`, and what the upstream says */
  async get(
    name: { readonly upstream: string; readonly repository: RepositoryName },
    reference: Reference,
    others: Others,
    wish: ManifestWish = {},
  ): Promise<ManifestAnswer> {
    if (reference.kind === 'tag') return await this.#byTag({ ...name, tag: reference.tag }, others, wish);
    const blob = { ...name, digest: reference.digest };
    const staleSeconds = await this.#deps.recheck.check(blob, others, wish);
    const found = await this.#byDigest(blob, wish);
    // Whom it was forwarded by remembers what was checked, not what was served.
    return others !== 'ask' && staleSeconds !== undefined ? { ...found, staleSeconds } : found;
  }

  /** Drops a manifest from memory. */
  forget(digest: Digest): void {
    this.#cache.delete(digest);
  }

  /** Takes a pushed manifest. @throws as {@link pushManifest} */
  async put(push: ManifestPush): Promise<StoredManifest & { readonly tags: readonly Tag[] }> {
    const read: ReadManifest = (name, digest) => this.get(name, { kind: 'digest', digest }, 'ask');
    const sizeOf = async (name: BlobName) => await this.#deps.blobs.sizeElsewhere(name);
    const pushed = await pushManifest({ ...this.#deps, read, sizeOf }, push);
    const { digest, mediaType, bytes } = pushed;
    this.#cache.put({ digest, mediaType, bytes });
    return pushed;
  }

  async #byTag(name: TagName, others: Others, wish: ManifestWish): Promise<ManifestAnswer> {
    const { tags, links, upstreams, nowMs } = this.#deps;
    const rules = upstreams.tagRules(name);
    const seenMs = links.seenMs();
    let state: TagState | undefined;
    // Only of an upstream that takes no pushes may another's word be asked for instead.
    const isAlone = rules.mode !== 'pull-through';
    try {
      state = await tags.state(name, { isPatient: isAlone });
    } catch (error) {
      if (isAlone || !isQuorumProblem(error)) throw error;
    }
    const [record, seen] = [recordOf(state), { seenMs, knownMs: state?.checkedAtMs }];
    const decided = decideTag(record, rules, nowMs());
    const isAsked = wish.fresh === true && mayAsk(record, rules);
    const decision = decided === 'answer' && isAsked ? 'ask-upstream' : decided;
    if (decision === 'unknown' || isTakenAway(state)) throw unknownTag(name);
    if (decision === 'answer')
      return await this.#byDigest({ ...name, digest: record!.digest }, { signal: wish.signal });
    const leader = this.#deps.members.leaderOf(shardKey(name.upstream, name.repository));
    if (others === 'ask' && leader !== this.#deps.members.selfId) {
      const forwarded = await askLeader(this.#deps.members, leader, name, wish);
      if (forwarded !== undefined) return forwarded;
    }
    if (wish.fresh === true || wish.authorization !== undefined)
      return await this.#revalidate(name, record, seen, wish);
    const key = `${name.upstream}\n${name.repository}\n${name.tag}`;
    const revalidate = async (unwanted: AbortSignal): Promise<ManifestAnswer> =>
      await this.#revalidate(name, record, seen, { signal: unwanted });
    return await this.#flights.share(key, revalidate, wish.signal);
  }

  /** `seen`: a clock taken before the tag was read, and what it said of its last check. */
  async #revalidate(
    name: TagName,
    record: TagRecord | undefined,
    seen: Seen & { readonly seenMs: number },
    wish: ManifestWish = {},
  ): Promise<ManifestAnswer> {
    const { upstreams, nowMs, tags, links, replication, log, recheck } = this.#deps;
    const client = upstreams.client(name.upstream, wish.authorization)!;
    const rules = upstreams.tagRules(name);
    const staleSeconds = staleAge(record, rules, nowMs());
    const signal = AbortSignal.timeout(
      staleSeconds === undefined ? upstreams.firstByteMs + MANIFEST_BODY_MS : REVALIDATE_MS,
    );
    const reference = { kind: 'tag', tag: name.tag } as const;
    const query = { repository: name.repository, reference, unwanted: wish.signal };
    const asked = recheck.asking();
    try {
      if (record !== undefined) {
        const head = await client.headManifest(query, signal);
        const known = { ...name, digest: record.digest };
        // One whose link was deleted is linked again below.
        if (head.digest === record.digest && !(await links.isDeleted(known))) {
          const held = await this.moveTag(name, record.digest, seen);
          recheck.confirmed(known, asked);
          return await this.#byDigest({ ...name, digest: held }, wish);
        }
      }
      const manifest = await client.getManifest(query, signal);
      const blob = { ...name, digest: manifest.digest };
      if (await links.isDeleted(blob)) {
        // By another tag there, as long as it has not heard of the delete, or while it did.
        if (await replication.isOwed(name, blob.digest)) throw unknownTag(name);
        await client.headManifest({ ...query, reference: { kind: 'digest', digest: blob.digest } }, signal);
      }
      await this.keep(name, manifest, seen.seenMs);
      const held = await this.moveTag(name, manifest.digest, seen);
      recheck.confirmed(blob, asked);
      if (held !== manifest.digest) return await this.#byDigest({ ...name, digest: held }, wish);
      return { digest: manifest.digest, mediaType: manifest.mediaType, bytes: manifest.bytes };
    } catch (thrown) {
      if (thrown === wish.signal?.reason) throw thrown;
      const error = upstreamError(thrown, name.upstream);
      if (error.code === 'MANIFEST_UNKNOWN' || error.code === 'REPOSITORY_UNKNOWN') {
        // What somebody's own login is not shown, as many registries say it, others may have.
        if (record !== undefined && wish.authorization === undefined)
          await tags
            .drop(name, record)
            .catch((cause: unknown) =>
              logFailure(log, cause, 'tag that is gone upstream not dropped', { tag: name.tag }),
            );
        throw unknownTag(name);
      }
      if (record === undefined || staleSeconds === undefined || !isPassing(error)) throw error;
      log.warn(
        {
          upstream: name.upstream,
          repository: name.repository,
          tag: name.tag,
          ageSeconds: staleSeconds,
          reason: error.message,
        },
        'tag served stale',
      );
      return {
        ...(await this.#byDigest({ ...name, digest: record.digest }, { signal: wish.signal })),
        staleSeconds,
      };
    }
  }

  /**
   * Notes what the upstream said, asked as `seen` says; returns what the tag points at then (its policy may hold
   * it where it was, or a push that waits, or came since). In pull-through the upstream's answer counts, also when the
   * register has no quorum now.
   */
  async moveTag(name: TagName, digest: Digest, seen: Seen): Promise<Digest> {
    const { tags, upstreams, log } = this.#deps;
    try {
      return (await tags.move(name, digest, upstreams.tagRules(name), 'revalidate', seen)).digest;
    } catch (error) {
      if (upstreams.takesDeletes(name.upstream) || !isQuorumProblem(error)) throw error;
      log.warn({ tag: name.tag, repository: name.repository }, 'tag not written: too few origins answer');
      return digest;
    }
  }

  async #byDigest(name: BlobName, wish: ManifestWish = {}): Promise<StoredManifest> {
    const { links, upstreams, recheck, proofs, store } = this.#deps;
    const client = upstreams.client(name.upstream, wish.authorization);
    const seenMs = links.seenMs();
    let link: LinkEntry | undefined;
    try {
      link = await links.find(name);
    } catch (error) {
      if (upstreams.takesDeletes(name.upstream) || !isQuorumProblem(error)) throw error;
    }
    proofs.noteLink(name, link);
    // What is larger is no manifest, whatever an index calls it.
    let isBlob = (link?.sizeBytes ?? 0) > MAX_MANIFEST_BYTES;
    const known = isBlob ? undefined : link;
    if (known !== undefined) {
      const provenance = (await store.stat(name.digest))?.attrs.provenance ?? [];
      const here = proofs.isProven(name, provenance)
        ? (this.#cache.get(name.digest) ?? (await this.#fromStore(name, known)))
        : undefined;
      const found = here ?? (await manifestOfOthers(this.#deps, name));
      if (found !== undefined && found !== 'blob') return this.#cache.put(found);
      isBlob = found === 'blob';
    }
    // Of what was pushed here as a blob no registry is asked: it may not have it yet, or be away.
    if (isBlob && link?.pushed === true) throw unknownManifest(name);
    if (client === undefined || (link === undefined && (await links.isDeleted(name)))) {
      const late = AbortSignal.timeout(upstreams.firstByteMs + MANIFEST_BODY_MS);
      const back = known && (await manifestFromBackend(this.#deps, name, known, late));
      if (back !== undefined) return this.#cache.put(back);
      throw unknownManifest(name);
    }
    const key = `${linkKey(name)}\n${whoseLogin(wish.authorization)}`;
    const fetch = async (unwanted: AbortSignal): Promise<ManifestAnswer> => {
      const asked = recheck.asking();
      const reference = { kind: 'digest', digest: name.digest } as const;
      const manifest = await client.getManifest(
        { repository: name.repository, reference, unwanted },
        AbortSignal.timeout(upstreams.firstByteMs + MANIFEST_BODY_MS),
      );
      await this.keep(name, manifest, seenMs);
      recheck.confirmed(name, asked);
      return { digest: name.digest, mediaType: manifest.mediaType, bytes: manifest.bytes };
    };
    try {
      const shared = async (): Promise<ManifestAnswer> => await this.#flights.share(key, fetch, wish.signal);
      return await doubtUnknown(name, link, this.#deps.blobs, shared);
    } catch (error) {
      wish.signal?.throwIfAborted();
      throw upstreamError(error, name.upstream);
    }
  }

  async #fromStore(name: BlobName, link: LinkEntry): Promise<StoredManifest | undefined> {
    const handle = await this.#deps.store.open(name.digest);
    if (handle === undefined) return undefined;
    try {
      const mediaType = handle.attrs.mediaType ?? link.mediaType;
      if (mediaType === undefined || handle.sizeBytes > MAX_MANIFEST_BYTES) return undefined;
      // What was stored as a manifest has its type; of other blobs an index may say anything.
      if (handle.attrs.mediaType === undefined && !isManifestType(mediaType)) return undefined;
      const bytes = await handle.readAllVerified();
      return handle.attrs.mediaType !== undefined || claimsToBeManifest(bytes)
        ? { digest: name.digest, mediaType, bytes }
        : undefined;
    } catch (error) {
      // Another copy does; this one is mended behind.
      if (!isCoded(error, 'DISK_CORRUPT')) throw error;
      this.#deps.repair.noteRotten(name.digest, error);
      return undefined;
    } finally {
      await handle.close();
    }
  }

  /**
   * Keeps a manifest of an upstream as a cached blob here and at its first owner, and links what it names, but for what was
   * deleted here since `seenMs`: `Links.seenMs` of before the upstream was asked.
   */
  async keep(
    name: { readonly upstream: string; readonly repository: RepositoryName },
    manifest: StoredManifest,
    seenMs: number,
  ): Promise<void> {
    const { store, links, proofs, referrers, members, cachedCopies, log } = this.#deps;
    const { digest, bytes, mediaType } = manifest;
    const provenance = [{ upstream: name.upstream, repository: name.repository }];
    const entries: LinkEntry[] = [{ ...name, digest, sizeBytes: bytes.length, mediaType }];
    let parsed: ParsedManifest | undefined;
    try {
      parsed = parseManifest(bytes, undefined);
      entries.push(...descriptorLinks(name, parsed.descriptors));
    } catch (error) {
      throwIfBug(error);
      // An odd manifest is handed on as it is; it leaves no hints.
    }
    this.#cache.put({ digest, bytes, mediaType });
    proofs.noteDelivered({ ...name, digest });
    const attrs = { class: 'cached', provenance, writtenBack: true, mediaType } as const;
    const kept = store
      .putBytes(digest, bytes, attrs)
      .then(async () => await store.addProvenance(digest, provenance[0]!))
      .then(() => cachedCopies.lookAfter({ ...name, digest }));
    await Promise.all([
      kept.catch((error: unknown) => logFailure(log, error, 'manifest not kept', { digest })),
      links
        .writeSeen(entries, seenMs)
        .then(async () => {
          if (parsed !== undefined) await referrers.note({ ...name, digest }, bytes.length, parsed, seenMs);
        })
        .catch((error: unknown) => {
          if (!isQuorumProblem(error)) throw error;
          log.warn({ digest, repository: name.repository }, 'links not written: too few origins answer');
        }),
    ]);
    const owner = members.leaderOf(digest);
    if (members.placement(digest).owners.includes(members.selfId)) return;
    const headers = { [H_CLASS]: 'cached', [H_MEDIA_TYPE]: mediaType };
    void members
      .json(owner, {
        ...to(ORIGIN_BLOBS.blobPut, { ...name, digest, copy: true }),
        headersTimeoutMs: MANIFEST_COPY_MS,
        headers,
        body: bytes,
      })
      .catch((error: unknown) =>
        logFailure(log, error, 'manifest not copied to its owner', { digest, owner }, 'debug'),
      );
  }
}

function unknownManifest({ repository, digest }: BlobName): CodedError {
  return new CodedError('MANIFEST_UNKNOWN', { detail: { reference: digest, repository } });
}
