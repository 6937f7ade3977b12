import { fewAtOnce } from '@sepia/base/async/few-at-once';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded, takesNoWrites } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { RepositoryName } from '@sepia/base/names/repository';
import type { ResolvedName } from '@sepia/base/names/upstream-name';
import type { PrefetchDetail } from '@sepia/cluster/api/commands';
import { type Descriptor, isIndexType, isKnownType, parseServedManifest } from '@sepia/oci/manifest';
import type { BlobStore } from '@sepia/store/blob-store';
import type { BlobTable } from '../../blobs/blob-table.ts';
import { PREFETCH_RETRY_MS, PROGRESS_EVERY_MS } from '../../deadlines.ts';
import type { ComingImage } from '../../lazy/lazy-images.ts';
import { ownChildren } from '../../manifests/core/platform.ts';
import type { Manifests } from '../../manifests/manifests.ts';
import type { CommandProgress } from './runner.ts';

/** Blobs of one command at once, as containerd does. */
const PARALLEL = 3;
const MAX_DEPTH = 4;
const MAX_MANIFESTS = 200;
/** A blob that failed in passing is tried this often, with this pause between, in ms. */
const TRIES = 4;

interface PrefetchDeps {
  readonly manifests: Manifests;
  readonly blobs: BlobTable;
  readonly store: BlobStore;
  /** Images of this node's kind, all of them before the layers of any. */
  readonly ahead: (images: readonly ComingImage[], signal: AbortSignal) => Promise<void>;
  /** As in an index's `platform.architecture`. */
  readonly architecture: string;
}

/**
 * Brings manifests and blobs into this node's cache as a client's pull would, from the swarm; of an image that the node's
 * snapshotter shows, what its start reads comes first. Resolves when all of it is stored. @throws what a pull would throw; `DISK_FULL` when a blob passed but could not be kept
 */
export async function prefetch(
  deps: PrefetchDeps,
  detail: PrefetchDetail,
  onProgress: (progress: CommandProgress) => void,
  signal: AbortSignal,
): Promise<CommandProgress> {
  const target = { upstream: detail.upstream, repository: detail.repository as RepositoryName };
  const sizes = new Map<Digest, number>();
  for (const digest of (detail.digests ?? []) as Digest[]) sizes.set(digest, 0);
  const images =
    detail.manifest === undefined
      ? []
      : await collect(deps, target, detail.manifest as Digest, detail.platforms === 'all', sizes, signal);
  const done = new Set<Digest>();
  const progress = (): CommandProgress => {
    let doneBytes = 0;
    let totalBytes = 0;
    for (const [digest, sizeBytes] of sizes) {
      totalBytes += sizeBytes;
      const share = done.has(digest) ? 1 : deps.blobs.shareOf(digest);
      doneBytes += Math.floor(share * sizeBytes);
    }
    return { doneBytes, totalBytes };
  };
  const ticker = setInterval(() => onProgress(progress()), PROGRESS_EVERY_MS);
  const fetch = async (digest: Digest, running: AbortSignal): Promise<void> => {
    sizes.set(digest, await fetchBlob(deps, { ...target, digest }, running));
    done.add(digest);
  };
  try {
    await deps.ahead(images, signal);
    await fewAtOnce([...sizes.keys()], PARALLEL, fetch, signal);
  } finally {
    clearInterval(ticker);
  }
  return progress();
}

/** Walks manifests down to the blobs that they name, with their sizes. @returns images that this node can run */
async function collect(
  deps: PrefetchDeps,
  target: ResolvedName,
  top: Digest,
  everything: boolean,
  sizes: Map<Digest, number>,
  signal: AbortSignal,
): Promise<ComingImage[]> {
  const seen = new Set<Digest>();
  const images: ComingImage[] = [];
  const visit = async (digest: Digest, depth: number, isOwn: boolean, child?: Descriptor): Promise<void> => {
    if (seen.has(digest)) return;
    if (seen.size >= MAX_MANIFESTS || depth > MAX_DEPTH)
      throw new CodedError('MANIFEST_SYNTAX', { message: 'index has too many or too deep children' });
    seen.add(digest);
    const reference = { kind: 'digest', digest } as const;
    const get = async () => await deps.manifests.get(target, reference, signal);
    const manifest = await patiently(get, signal).catch((error: unknown) => {
      if (child === undefined || isKnownType(child.mediaType) || !isCoded(error, 'MANIFEST_UNKNOWN'))
        throw error;
      // What an index names by a type that nobody knows may be a blob.
      sizes.set(digest, child.sizeBytes);
      return undefined;
    });
    if (manifest === undefined) return;
    const { bytes } = manifest;
    const parsed = parseServedManifest(bytes, manifest.mediaType);
    for (const { kind, foreign, digest: named, sizeBytes } of parsed.descriptors)
      if (kind !== 'child' && !foreign) sizes.set(named, sizeBytes);
    const config = parsed.descriptors.find(({ kind }) => kind === 'config');
    if (isOwn && config !== undefined)
      images.push({ manifest, config: { ...target, digest: config.digest } });
    if (!isIndexType(parsed.mediaType)) return;
    // An index may name 20,000.
    const children = new Map<string, Descriptor>(
      parsed.descriptors.filter(({ kind }) => kind === 'child').map((one) => [one.digest, one]),
    );
    const platforms = platformsOf(bytes).filter(({ digest: named }) => children.has(named));
    const own = ownChildren(platforms, deps.architecture);
    for (const named of everything ? [...children.values()] : own.map((one) => children.get(one)!))
      await visit(named.digest, depth + 1, isOwn && own.includes(named.digest), named);
  };
  await visit(top, 1, true);
  return images;
}

function platformsOf(bytes: Uint8Array): { digest: string; platform: unknown }[] {
  const { manifests = [] } = JSON.parse(Buffer.from(bytes).toString('utf8')) as {
    manifests?: { digest: string; platform?: unknown }[];
  };
  return manifests.map(({ digest, platform }) => ({ digest, platform }));
}

/** The blob's size once it is whole in the store. */
async function fetchBlob(deps: PrefetchDeps, name: BlobName, signal: AbortSignal): Promise<number> {
  return await patiently(async () => {
    const lease = await deps.blobs.get(name, signal);
    try {
      if (!lease.cached) await lease.blob.whenFinal(signal);
      await deps.blobs.settled(name.digest);
      if (!(await deps.store.has(name.digest)))
        throw new CodedError('DISK_FULL', { message: 'the blob came but could not be kept: disk is full' });
      return lease.blob.sizeBytes;
    } finally {
      lease.release();
    }
  }, signal);
}

/** Tries again what may pass. */
async function patiently<T>(step: () => Promise<T>, signal: AbortSignal): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await step();
    } catch (error) {
      throwIfBug(error);
      signal.throwIfAborted();
      const passing = isCoded(error) && error.facts.retryable && !takesNoWrites(error);
      if (!passing || tries >= TRIES) throw error;
      await delay(PREFETCH_RETRY_MS * tries, signal);
    }
  }
}
