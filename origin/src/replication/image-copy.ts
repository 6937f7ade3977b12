import { type Digest, isDigest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import { parseRepositoryName, parseTag, type RepositoryName } from '@sepia/base/names/repository';
import { type Descriptor, isIndexType, isKnownType, parseServedManifest } from '@sepia/oci/manifest';
import { referrersTag } from '@sepia/upstream/referrers/referrer-list';
import type { StoredManifest } from '../manifests/manifest-cache.ts';
import type { Manifests } from '../manifests/manifests.ts';
import type { Tags } from '../records/tags.ts';
import type { BlobReader } from './blob-reader.ts';
import { listedBy, subjectOfTag } from './core/replication.ts';
import { lacksParts, namesSubject } from './referrer-lists.ts';
import type { Target } from './targets.ts';

/** What a copy did so far. */
export interface CopyProgress {
  /** Bytes sent of those that the target lacked. */
  sentBytes: number;
  /** Bytes of blobs that were found to be lacking. */
  missingBytes: number;
  blobs: number;
  manifests: number;
  mounted: number;
}

/** What to copy. */
export interface CopyName {
  readonly upstream: string;
  readonly repository: RepositoryName;
  /** Tag or digest. */
  readonly reference: string;
  /** Runs when all but the tag is at the target; false: the tag is there by now, or is to be another. What it throws ends the copy. */
  readonly beforeTag?: () => Promise<boolean>;
  /** A list of referrers goes into the one that stands under its tag at the target, not over it. */
  readonly mergesLists?: boolean;
}

interface ImageCopyDeps {
  readonly manifests: Manifests;
  readonly tags: Tags;
  readonly reader: BlobReader;
  /** Manifests that name one as their subject, in this cluster. */
  readonly referrersOf: (
    name: { readonly upstream: string; readonly repository: RepositoryName },
    subject: Digest,
  ) => Promise<readonly Digest[]>;
  /** Repositories that brought a blob to this origin's store. */
  readonly broughtBy: (
    digest: Digest,
  ) => Promise<readonly { readonly upstream: string; readonly repository: string }[]>;
  readonly nowMs: () => number;
  readonly onBytes: (rule: string, bytes: number) => void;
}

/** Indexes within indexes up to this. */
const MAX_DEPTH = 8;

/**
 * Copies a tag or manifest with all that it names: blobs first, then manifests from the bottom up, the tag last, so
 * that the target never has a manifest whose parts are missing. Nothing that the target has is sent again.
 */
export class ImageCopy {
  readonly #deps: ImageCopyDeps;
  readonly #target: Target;
  readonly #signal: AbortSignal;
  readonly progress: CopyProgress = { sentBytes: 0, missingBytes: 0, blobs: 0, manifests: 0, mounted: 0 };
  /** Manifests that are at the target, by this copy or before. */
  readonly #there = new Set<Digest>();
  #referrersLeft: number;

  constructor(deps: ImageCopyDeps, target: Target, signal: AbortSignal) {
    this.#deps = deps;
    this.#target = target;
    this.#signal = signal;
    this.#referrersLeft = target.rule.referrers.max;
  }

  /**
   * Resolves when all is at the target. A tag that is gone by now is no failure: its deletion is a job of its own. A copy takes
   * long: another origin that took this one for dead may have brought a later push, which nothing is put over.
   */
  async run(name: CopyName): Promise<void> {
    const to = this.#target.matcher.target(name.repository);
    if (to === undefined) return;
    const found = await this.#resolve(name);
    if (found === undefined) return;
    const { digest, tag } = found;
    if (tag !== undefined && this.#target.matcher.onlyWithSubject(tag) && !(await this.#hasSubject(to, tag)))
      return;
    let isMoved = false;
    const beforeTag = async (): Promise<boolean> => {
      isMoved = (await this.#resolve(name))?.digest !== digest;
      return !isMoved;
    };
    const merging = { ...name, mergesLists: true };
    await this.#tree({ ...merging, beforeTag }, to, digest, tag, 0);
    if (isMoved) return await this.run(name);
    // What is known here may be more than such a list names.
    const listed = tag === undefined ? undefined : listedBy(tag);
    if (listed !== undefined) await this.#referrers(merging, to, listed, 0);
    await this.#referrers(merging, to, digest, 0);
  }

  /** Resolves when a manifest with all below it is at the target, under `tag` if one is given; nothing of its referrers. */
  async one(name: Omit<CopyName, 'reference'>, digest: Digest, tag: string | undefined): Promise<void> {
    const to = this.#target.matcher.target(name.repository);
    if (to !== undefined) await this.#tree({ ...name, reference: tag ?? digest }, to, digest, tag, 0);
  }

  /** A list of referrers went over the one at the target: what is there of those that are known here stands in it when this resolves. */
  async relist(name: Omit<CopyName, 'reference'>, subject: Digest): Promise<void> {
    const to = this.#target.matcher.target(name.repository);
    if (to === undefined) return;
    const { client, referrers } = this.#target;
    for (const digest of await this.#deps.referrersOf(name, subject)) {
      const read = async (): Promise<StoredManifest> =>
        await this.#deps.manifests.get(name, { kind: 'digest', digest }, 'ask');
      if ((await client.headManifest(to, digest, this.#signal)) === digest)
        await referrers.there(to, read, this.#signal);
    }
  }

  async #resolve(name: CopyName): Promise<{ digest: Digest; tag: string | undefined } | undefined> {
    if (isDigest(name.reference)) return { digest: name.reference, tag: undefined };
    const record = await this.#deps.tags.read({ ...name, tag: parseTag(name.reference) });
    return record === undefined ? undefined : { digest: record.digest, tag: name.reference };
  }

  async #hasSubject(to: string, tag: string): Promise<boolean> {
    const subject = subjectOfTag(tag)!;
    return (await this.#target.client.headManifest(to, subject, this.#signal)) !== undefined;
  }

  /** A manifest and all below it; under its tag if it has one. */
  async #tree(
    name: CopyName,
    to: RepositoryName,
    digest: Digest,
    tag: string | undefined,
    depth: number,
    isAgain = false,
  ): Promise<void> {
    this.#signal.throwIfAborted();
    if (tag === undefined && this.#there.has(digest) && !isAgain) return;
    const send = async (): Promise<void> => await this.#send(name, to, digest, tag, depth, isAgain);
    if (tag !== undefined) return await send();
    await this.#target.sending.share(`${to}@${digest}`, send, this.#signal);
    this.#there.add(digest);
  }

  async #send(
    name: CopyName,
    to: RepositoryName,
    digest: Digest,
    tag: string | undefined,
    depth: number,
    isAgain: boolean,
  ): Promise<void> {
    const { client, referrers } = this.#target;
    const reference = tag ?? digest;
    const read = async (): Promise<StoredManifest> =>
      await this.#deps.manifests.get(name, { kind: 'digest', digest }, 'ask');
    if (!isAgain && (await client.headManifest(to, reference, this.#signal)) === digest) {
      this.#there.add(digest);
      // A copy may have ended between a referrer and its list. What an index names is no referrer.
      if (depth === 0) await referrers.there(to, read, this.#signal);
      return;
    }
    if (depth > MAX_DEPTH)
      throw new CodedError('MANIFEST_SYNTAX', { message: `index is nested deeper than ${MAX_DEPTH}` });
    const manifest = await read();
    const isThere =
      !isAgain &&
      (this.#there.has(digest) ||
        (tag !== undefined && (await client.headManifest(to, digest, this.#signal)) !== undefined));
    if (!isThere) await this.#parts(name, to, manifest, depth, isAgain);
    // The tag comes behind the list, too.
    if (tag !== undefined && namesSubject(manifest)) await this.#tree(name, to, digest, undefined, depth);
    const put = async (): Promise<void> => {
      if (tag !== undefined && (await name.beforeTag?.()) === false) return;
      const write = async () => await client.putManifest(to, reference, manifest, this.#signal);
      const listed = name.mergesLists === true ? listIn(manifest, tag) : undefined;
      if (tag === undefined) await referrers.added(to, manifest, await write(), this.#signal);
      else if (listed === undefined) await write();
      else await referrers.merge(to, listed, manifest, async () => void (await write()), this.#signal);
    };
    try {
      await put();
    } catch (error) {
      throwIfBug(error);
      if (isAgain || !lacksParts(error)) throw error;
      await this.#parts(name, to, manifest, depth, true);
      await put();
    }
    this.#there.add(digest);
    this.progress.manifests += 1;
  }

  /** `isAgain`: what the target said that it has, it lacked in the end; nothing is asked for then, nor mounted. */
  async #parts(
    name: CopyName,
    to: RepositoryName,
    manifest: StoredManifest,
    depth: number,
    isAgain: boolean,
  ): Promise<void> {
    const { descriptors } = parseServedManifest(manifest.bytes, manifest.mediaType);
    const blobs = new Map<Digest, Descriptor>();
    for (const one of descriptors) {
      if (one.kind === 'child' && (await this.#child(name, to, one, depth + 1, isAgain))) continue;
      if (!one.foreign) blobs.set(one.digest, one);
    }
    const failed = new AbortController();
    const signal = AbortSignal.any([this.#signal, failed.signal]);
    const sent = await Promise.allSettled(
      [...blobs.values()].map(async (one) => {
        // Who joins what another copy sends holds no slot, and it goes on for who is left.
        const send = async (wanted: AbortSignal): Promise<void> => {
          const release = await this.#target.gate.acquire(wanted, laneOf(name));
          await this.#blob(name, to, one, wanted, isAgain).finally(release);
        };
        try {
          await this.#target.sending.run(`${to}@${one.digest}`, send, signal);
        } catch (error) {
          failed.abort(error);
          throw error;
        }
      }),
    );
    const bad = sent.find((one) => one.status === 'rejected');
    if (bad !== undefined) throw failed.signal.aborted ? failed.signal.reason : bad.reason;
  }

  /** False for what an index names by a type that nobody knows, and that is a blob. */
  async #child(
    name: CopyName,
    to: RepositoryName,
    one: Descriptor,
    depth: number,
    isAgain: boolean,
  ): Promise<boolean> {
    try {
      await this.#tree(name, to, one.digest, undefined, depth, isAgain);
      return true;
    } catch (error) {
      throwIfBug(error);
      const isNone = isCoded(error, 'MANIFEST_UNKNOWN') && error.detail['reference'] === one.digest;
      if (!isNone || isKnownType(one.mediaType)) throw error;
      return false;
    }
  }

  async #blob(
    name: CopyName,
    to: RepositoryName,
    one: Descriptor,
    signal: AbortSignal,
    isAgain: boolean,
  ): Promise<void> {
    const { client, rule } = this.#target;
    if (!isAgain && (await client.hasBlob(to, one.digest, signal))) return this.#remember(one.digest, to);
    const mount = isAgain ? undefined : await this.#mountOf(name.upstream, one.digest, to);
    const begun = await client.begin(to, mount, signal);
    if (begun.type === 'mounted') {
      this.progress.mounted += 1;
      return this.#remember(one.digest, to);
    }
    this.progress.missingBytes += one.sizeBytes;
    const pace = async (bytes: number): Promise<void> => {
      const waitMs = this.#target.budget?.take(bytes, this.#deps.nowMs()) ?? 0;
      if (waitMs > 0) await delay(waitMs, signal);
      this.progress.sentBytes += bytes;
      this.#deps.onBytes(rule.name, bytes);
    };
    const source = { upstream: name.upstream, repository: name.repository, digest: one.digest };
    await client.upload(
      {
        repository: to,
        digest: one.digest,
        sizeBytes: one.sizeBytes,
        open: (start, end) => this.#deps.reader.open(source, { start, end }, pace, signal),
      },
      begun.url,
      signal,
    );
    this.progress.blobs += 1;
    this.#remember(one.digest, to);
  }

  async #mountOf(
    upstream: string,
    digest: Digest,
    to: string,
  ): Promise<{ readonly digest: Digest; readonly from: string } | undefined> {
    const from = this.#target.places.get(digest) ?? (await this.#elsewhere(upstream, digest, to));
    return from === undefined || from === to ? undefined : { digest, from };
  }

  /** Another repository of the target that should have the blob, if this origin knows one. */
  async #elsewhere(upstream: string, digest: Digest, to: string): Promise<string | undefined> {
    const brought = await this.#deps.broughtBy(digest);
    const { matcher } = this.#target;
    const there = brought.flatMap((one) =>
      matcher.matchesRepository(upstream, one.repository) && one.upstream === upstream
        ? (matcher.target(one.repository) ?? [])
        : [],
    );
    return there.find((repository) => repository !== to);
  }

  #remember(digest: Digest, to: string): void {
    this.#target.places.set(digest, to);
  }

  /** What names `digest` as its subject, and what names that; tags that older clients keep for it. */
  async #referrers(name: CopyName, to: RepositoryName, digest: Digest, depth: number): Promise<void> {
    if (depth >= this.#target.rule.referrers.depth) return;
    for (const suffix of ['', '.sig', '.att', '.sbom']) {
      const tag = `${referrersTag(digest)}${suffix}`;
      const record = await this.#deps.tags.read({ ...name, tag: parseTag(tag) });
      if (record === undefined || this.#referrersLeft <= 0) continue;
      this.#referrersLeft -= 1;
      await this.#tree(name, to, record.digest, tag, 0);
    }
    // Behind the tags: one of them is the list that the target may keep of these.
    for (const referrer of await this.#deps.referrersOf(name, digest)) {
      if (this.#referrersLeft <= 0) return;
      this.#referrersLeft -= 1;
      await this.#tree(name, to, referrer, undefined, 0);
      await this.#referrers(name, to, referrer, depth + 1);
    }
  }
}

/** Images take turns at the target: one of many layers holds up no other. */
function laneOf({ upstream, repository, reference }: CopyName): string {
  return [upstream, repository, reference].join('\n');
}

/** Whose referrers a manifest lists that stands under `tag`; undefined for any other. */
function listIn({ mediaType }: StoredManifest, tag: string | undefined): Digest | undefined {
  const subject = tag === undefined || !isIndexType(mediaType) ? undefined : listedBy(tag);
  return subject !== undefined && referrersTag(subject) === tag ? subject : undefined;
}

/**
 * Takes a tag away at the target, if its rule wants that and the tag is still gone here. A push may have come meanwhile, and
 * its copy have been there before this, or before the try before this: what stands here at the end is brought there.
 */
export async function deleteAtTarget(
  deps: Pick<ImageCopyDeps, 'tags'>,
  target: Target,
  { name, copy }: { readonly name: CopyName; readonly copy: Pick<ImageCopy, 'run'> },
  signal: AbortSignal,
): Promise<void> {
  const to = target.matcher.target(parseRepositoryName(name.repository));
  if (to === undefined || !target.rule.delete || isDigest(name.reference)) return;
  const isHere = async (): Promise<boolean> =>
    (await deps.tags.read({ ...name, tag: parseTag(name.reference) })) !== undefined;
  if (!(await isHere())) await target.client.deleteManifest(to, name.reference, signal);
  if (await isHere()) await copy.run(name);
}
