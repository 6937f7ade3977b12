import { type Digest, isDigest } from '@sepia/base/digest';
import { throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { PurgeDetail } from '@sepia/cluster/api/commands';
import { isKnownType, MAX_MANIFEST_BYTES, parseServedManifest } from '@sepia/oci/manifest';
import type { BlobStore } from '@sepia/store/blob-store';
import type { Provenance } from '@sepia/store/sidecar';
import type { Hints } from '../../blobs/core/hints.ts';
import type { Seeds } from '../../blobs/seeds.ts';
import type { TagMemory } from '../../manifests/tag-memory.ts';

interface PurgeDeps {
  readonly store: BlobStore;
  readonly seeds: Seeds;
  readonly hints: Hints;
  readonly tags: TagMemory;
  readonly log: Logger;
}

/**
 * Forgets content of a repository on this node: tags as last seen, hints, the cached manifest and what it names. What
 * is removed is only cache: whoever still may have it gets it again. Blobs that other repositories were seen with
 * stay, without this repository's link.
 */
export async function purge(deps: PurgeDeps, detail: PurgeDetail): Promise<void> {
  const { upstream, repository, digest, tag } = detail;
  const { tags, hints } = deps;
  const whole = digest === undefined && tag === undefined;
  const named = new Set<Digest>();
  if (digest !== undefined && isDigest(digest)) named.add(digest);
  for (const seen of tags.forget(upstream, repository, whole ? {} : { digest, tag })) named.add(seen);
  if (whole) {
    for await (const listed of deps.store.list()) named.add(listed.digest);
    hints.forget(upstream, repository);
  }
  for (const one of named) await drop(deps, detail, one, !whole);
}

async function drop(deps: PurgeDeps, detail: PurgeDetail, digest: Digest, descend: boolean): Promise<void> {
  const { store, seeds, hints } = deps;
  const { upstream, repository } = detail;
  hints.forget(upstream, repository, digest);
  const stat = await store.stat(digest);
  if (stat === undefined) {
    // What the disk does not read now it may read later.
    await store.deleteUnless(digest, (attrs) => attrs !== undefined);
    return;
  }
  const { provenance, mediaType } = stat.attrs;
  const isOther = (one: Provenance): boolean => one.upstream !== upstream || one.repository !== repository;
  if (provenance.every(isOther)) return;
  const below =
    descend && mediaType !== undefined && isKnownType(mediaType)
      ? await namedBy(deps, digest, mediaType)
      : [];
  // By what is said of it now: another repository may have been seen with it meanwhile.
  const freedBytes = await store.deleteUnless(digest, (now) => now?.provenance.some(isOther) === true);
  if (freedBytes > 0) seeds.drop(digest);
  else await store.setAttrs(digest, (now) => ({ ...now, provenance: now.provenance.filter(isOther) }));
  for (const one of below) await drop(deps, detail, one, true);
}

async function namedBy(deps: PurgeDeps, digest: Digest, mediaType: string): Promise<Digest[]> {
  await using handle = await deps.store.open(digest);
  if (handle === undefined || handle.sizeBytes > MAX_MANIFEST_BYTES) return [];
  try {
    const bytes = await handle.readAllVerified();
    return parseServedManifest(bytes, mediaType).descriptors.map((one) => one.digest);
  } catch (error) {
    throwIfBug(error);
    deps.log.warn({ err: error, digest }, 'purged manifest cannot be read; what it names stays cached');
    return [];
  }
}
