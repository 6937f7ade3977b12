import { fewAtOnce } from '@sepia/base/async/few-at-once';
import { type Digest, digestAlgorithm, digestOf } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { RepositoryName, Tag } from '@sepia/base/names/repository';
import { takesPushes } from '@sepia/cluster/write-back';
import type { Descriptor, ParsedManifest } from '@sepia/oci/manifest';
import { parsePushedManifest } from '@sepia/oci/pushed-manifest';
import type { Reference } from '@sepia/oci/route';
import type { BlobStore } from '@sepia/store/blob-store';
import type { Kept } from '../blobs/kept.ts';
import type { Replicator } from '../blobs/replicator.ts';
import { smallBlob } from '../blobs/sent-blob.ts';
import { readOnly } from '../blobs/uploads.ts';
import { NEEDED_MS } from '../deadlines/upstreams.ts';
import { closureOf, type ReadManifest } from '../fence/closure.ts';
import type { ContentGuard } from '../fence/content-guard.ts';
import type { LinkEntry, Links } from '../records/links.ts';
import { keepLinked, missingLinks } from '../records/missing-links.ts';
import type { Quotas } from '../records/quotas.ts';
import type { Referrers } from '../records/referrers.ts';
import type { Tags } from '../records/tags.ts';
import type { RegistryBehind } from '../upstream/registry-behind.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import { keepNeeded } from './keep-needed.ts';
import type { StoredManifest } from './manifest-cache.ts';

interface Repository {
  readonly upstream: string;
  readonly repository: RepositoryName;
}

/** A manifest as a client pushes it. */
export interface ManifestPush {
  readonly name: Repository;
  readonly reference: Reference;
  readonly bytes: Buffer;
  readonly contentType: string | undefined;
  /** Tags to move beside the reference; those that may not move are left out. */
  readonly furtherTags?: readonly Tag[];
  /** Id of the push, the same at every origin that is given it: its tags move once. */
  readonly change?: string | undefined;
  /** Aborted when nobody waits for this origin's answer any more: another one may have made the push, and a delete taken it since. */
  readonly signal?: AbortSignal | undefined;
}

/** Hears of a push before and after it, so that it is replicated whatever happens between. */
export interface PushIntents {
  /** Call what it returns when the push has happened, before it is acknowledged. @throws `QUORUM_LOST` */
  intend(
    name: Repository,
    reference: Reference,
    pushed: { readonly digest: Digest; readonly hasSubject: boolean },
  ): Promise<() => Promise<void>>;
}

/** What a push of a manifest goes through. */
export interface PushDeps {
  readonly store: BlobStore;
  /** Size of a blob that is not at this origin, as another origin tells it; undefined if none does. */
  readonly sizeOf: (name: BlobName) => Promise<number | undefined>;
  readonly links: Links;
  readonly keeps: Pick<Kept, 'byOwners'>;
  readonly tags: Tags;
  readonly quotas: Pick<Quotas, 'check' | 'hold' | 'release'>;
  readonly referrers: Referrers;
  readonly replicator: Replicator;
  readonly replication: PushIntents;
  readonly behind: Pick<RegistryBehind, 'look'>;
  readonly upstreams: Upstreams;
  readonly guard: Pick<ContentGuard, 'using' | 'writing'>;
  /** Manifests that an index names. */
  readonly read: ReadManifest;
}

/**
 * Takes a pushed manifest: what it names must be linked here; stored on W owners, linked, noted under its subject,
 * then the tags move; what a delete unlinked meanwhile is linked again. Returns it with the further tags that moved.
 * @throws `UPSTREAM_READ_ONLY`, `MANIFEST_SYNTAX`, `MANIFEST_BLOB_MISSING`, `DIGEST_MISMATCH`, `QUOTA_EXCEEDED`, `TAG_IMMUTABLE`, `CONTENT_SWEPT`, `QUORUM_LOST`
 */
export async function pushManifest(
  deps: PushDeps,
  push: ManifestPush,
): Promise<StoredManifest & { readonly tags: readonly Tag[] }> {
  const { guard, upstreams } = deps;
  const { name, bytes } = push;
  const { mode } = upstreams.get(name.upstream);
  if (!takesPushes(mode)) throw readOnly(name.upstream, mode);
  const parsed = parsePushedManifest(bytes, push.contentType);
  const digest = checkedDigest(push);
  const needed = await closureOf(deps.read, name, parsed.descriptors);
  return await guard.using(
    needed.map((one) => ({ ...name, digest: one.digest })),
    async () =>
      await guard.writing(digest, async () => await storeManifest(deps, push, parsed, digest, needed)),
  );
}

/** Stores and links a manifest and all below it, then moves its tags. */
async function storeManifest(
  deps: PushDeps,
  push: ManifestPush,
  parsed: ParsedManifest,
  digest: Digest,
  needed: readonly Descriptor[],
): Promise<StoredManifest & { readonly tags: readonly Tag[] }> {
  const { links, quotas, store, replicator, replication, referrers, upstreams } = deps;
  const { name, bytes } = push;
  const isWrittenBack = upstreams.get(name.upstream).mode === 'write-back';
  if (isWrittenBack) await confirmLinks(links, name, needed);
  await requireLinks(links, name, needed);
  await checkSizes(deps, name, parsed.descriptors);
  await quotas.check({ ...name, digest }, bytes.length);
  if (push.reference.kind === 'tag') await holdTag(deps, name, push.reference.tag);
  const { mediaType } = parsed;
  const provenance = [{ upstream: name.upstream, repository: name.repository }];
  const own = { ...name, digest, sizeBytes: bytes.length, mediaType };
  const entries: LinkEntry[] = [
    isWrittenBack ? { ...own, pushed: true } : own,
    ...descriptorLinks(name, needed),
  ];
  // Links that ride are on an owner with the copy, before they are written.
  push.signal?.throwIfAborted();
  // What rules copy by its links alone is noted for them first.
  const mayRide = !isWrittenBack && parsed.subject === undefined;
  const riding = mayRide ? links.ride(entries) : undefined;
  await replicator.hold(digest, async () => {
    const given = { class: 'pushed', provenance, writtenBack: false, mediaType } as const;
    const owe = async (): Promise<void> => await replicator.owe({ ...name, digest });
    const attrs = await store.putBytes(digest, bytes, given, owe);
    await replicator.place({ ...name, digest }, { small: smallBlob(attrs, bytes), links: riding });
  });
  const references = [
    push.reference,
    ...(push.furtherTags ?? []).map((tag) => ({ kind: 'tag', tag }) as const),
  ];
  const pushed = await Promise.all(
    references.map(
      async (one) =>
        await replication.intend(name, one, { digest, hasSubject: parsed.subject !== undefined }),
    ),
  );
  if (isWrittenBack) await keepNeeded(deps, name, [{ digest, mediaType }, ...needed]);
  const linked = entries.map((one) => one.digest);
  push.signal?.throwIfAborted();
  const tags = await keepLinked(links, name, linked, {
    write: async () => {
      await links.write(entries, riding);
      await referrers.note({ ...name, digest }, bytes.length, parsed);
    },
    point: async () => await moveTags(deps, push, digest),
  });
  await Promise.all(pushed.map(async (done) => await done()));
  return { digest, mediaType, bytes, tags };
}

/** Links that are asked for at the upstream at once. */
const CONFIRMS_AT_ONCE = 8;

/** Content that the registry behind has counts as there: its links are written where it says so. */
async function confirmLinks(links: Links, name: Repository, needed: readonly Descriptor[]): Promise<void> {
  const missing = await missingLinks(links, name, [...new Set(needed.map((one) => one.digest))]);
  const signal = AbortSignal.timeout(NEEDED_MS);
  await fewAtOnce(missing, CONFIRMS_AT_ONCE, async (digest) => {
    try {
      await links.require({ ...name, digest }, signal);
    } catch (error) {
      // Whether it is linked now is asked next; a registry that is silent leaves it missing.
      if (!isCoded(error)) throw error;
    }
  });
}

/** @throws `MANIFEST_BLOB_MISSING` that names what is not linked here */
export async function requireLinks(
  links: Pick<Links, 'find' | 'findMany'>,
  name: Repository,
  needed: readonly { readonly digest: Digest }[],
): Promise<void> {
  const missing = await missingLinks(links, name, [...new Set(needed.map((one) => one.digest))]);
  if (missing.length === 0) return;
  throw new CodedError('MANIFEST_BLOB_MISSING', {
    message: `manifest names content that this repository does not have: ${missing.join(', ')}`,
    detail: { digests: missing },
  });
}

/** Blobs whose size is looked up at once. */
const SIZES_AT_ONCE = 32;
/** Entries of one manifest whose size is checked, and of them those that other origins are asked about; images name fewer. */
const MAX_SIZES_CHECKED = 1_024;
const MAX_SIZES_ASKED = 256;

/** @throws {CodedError} `MANIFEST_SYNTAX` for a size that is not that of the blob which this origin or another owner has */
async function checkSizes(
  { store, sizeOf }: Pick<PushDeps, 'store' | 'sizeOf'>,
  name: Repository,
  descriptors: readonly Descriptor[],
): Promise<void> {
  const needed = descriptors.filter((one) => !one.foreign).slice(0, MAX_SIZES_CHECKED);
  let asked = 0;
  for (let at = 0; at < needed.length; at += SIZES_AT_ONCE) {
    const found = await Promise.all(
      needed.slice(at, at + SIZES_AT_ONCE).map(async ({ digest, sizeBytes }) => {
        const own = (await store.stat(digest))?.sizeBytes;
        const isAsked = own === undefined && ++asked <= MAX_SIZES_ASKED;
        return { digest, told: sizeBytes, found: isAsked ? await sizeOf({ ...name, digest }) : own };
      }),
    );
    const wrong = found.find((one) => one.found !== undefined && one.found !== one.told);
    if (wrong !== undefined)
      throw new CodedError('MANIFEST_SYNTAX', {
        message: `manifest tells another size of ${wrong.digest} than the blob has`,
        detail: { digest: wrong.digest, told: wrong.told, found: wrong.found },
      });
  }
}

function checkedDigest({ reference, bytes }: ManifestPush): Digest {
  if (reference.kind === 'tag') return digestOf(bytes);
  const digest = digestOf(bytes, digestAlgorithm(reference.digest));
  if (reference.digest === digest) return digest;
  throw new CodedError('DIGEST_MISMATCH', { detail: { expected: reference.digest, found: digest } });
}

/** Room for a tag, before anything of the push is stored; it counts as there once its register has it. */
async function holdTag({ quotas }: PushDeps, name: Repository, tag: Tag): Promise<void> {
  await quotas.hold(name, { id: `tag ${tag}`, tag });
}

async function moveTags(deps: PushDeps, push: ManifestPush, digest: Digest): Promise<Tag[]> {
  const { tags, upstreams, behind } = deps;
  const { name, reference, furtherTags = [] } = push;
  const move = async (tag: Tag): Promise<unknown> =>
    await tags.move({ ...name, tag }, digest, upstreams.tagRules({ ...name, tag }), 'push', {
      change: push.change,
      behind: await behind.look({ ...name, tag }),
    });
  if (reference.kind === 'tag') await move(reference.tag);
  const moved: Tag[] = [];
  for (const tag of furtherTags) {
    try {
      await holdTag(deps, name, tag);
      await move(tag);
      moved.push(tag);
    } catch (error) {
      if (!isCoded(error, 'TAG_IMMUTABLE') && !isCoded(error, 'QUOTA_EXCEEDED')) throw error;
    }
  }
  return moved;
}

/** Links to what a manifest names. */
export function descriptorLinks(
  name: { readonly upstream: string; readonly repository: string },
  list: readonly { readonly digest: Digest; readonly sizeBytes: number; readonly mediaType: string }[],
): LinkEntry[] {
  const seen = new Map(list.map((one) => [one.digest, one]));
  return [...seen.values()].map(({ digest, sizeBytes, mediaType }) => ({
    upstream: name.upstream,
    repository: name.repository,
    digest,
    sizeBytes,
    mediaType,
  }));
}
