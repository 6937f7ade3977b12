import type { RepositoryName } from '@sepia/base/names/repository';
import type { TagIndex } from '../records/tag-index.ts';
import type { WaitingManifest } from '../replication/replication-queue.ts';
import type { Upstreams } from '../upstream/upstreams.ts';

/** Tags that are owed and are looked at one by one. */
const MAX_OWED = 200;

type Repository = { readonly upstream: string; readonly repository: RepositoryName };

/** Knows what pushes the registries behind have not got. */
export interface WaitingPushes {
  /** Tag or digest of one to this repository. @throws `QUORUM_LOST` */
  waiting(name: Repository): Promise<string | undefined>;
  /** All of them; undefined where they are too many. @throws `QUORUM_LOST` */
  allWaiting(name: Repository): Promise<readonly WaitingManifest[] | undefined>;
}

interface WaitingDeps {
  readonly tagIndex: Pick<TagIndex, 'owed'>;
  readonly replication: WaitingPushes;
  readonly upstreams: Pick<Upstreams, 'keepsPushes'>;
}

/**
 * Tag or digest of a push that the registry behind a repository has not got: what it names, or builds on, would be lost for
 * good; undefined where none waits. @throws `QUORUM_LOST`
 */
export async function waitingPush(
  { tagIndex, replication, upstreams }: WaitingDeps,
  name: Repository,
): Promise<string | undefined> {
  if (!upstreams.keepsPushes(name.upstream)) return undefined;
  for await (const { tag } of tagIndex.owed(name)) return tag;
  // What was pushed by its digest, or what a tag pointed at before, is owed by jobs alone.
  return await replication.waiting(name);
}

/** All of them, some twice; `many` where they are not looked at one by one. @throws `QUORUM_LOST` */
export async function waitingPushes(
  { tagIndex, replication, upstreams }: WaitingDeps,
  name: Repository,
): Promise<readonly WaitingManifest[] | 'many'> {
  if (!upstreams.keepsPushes(name.upstream)) return [];
  const found: WaitingManifest[] = [];
  for await (const { tag, digest } of tagIndex.owed(name)) {
    // One that is to go there needs nothing.
    if (digest === undefined) continue;
    if (found.length >= MAX_OWED) return 'many';
    found.push({ reference: tag, digest });
  }
  const noted = await replication.allWaiting(name);
  return noted === undefined ? 'many' : [...found, ...noted];
}
