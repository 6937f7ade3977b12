import type { Digest } from '@sepia/base/digest';
import { isShown } from '@sepia/records/core/join';
import type { Fence } from '../../../src/fence/core/fence.ts';
import type { GcLink, GcReferrer } from '../../../src/gc/core/mark.ts';
import { type Clocked, joined } from './entries.ts';
import type { Process } from './scheduler.ts';
import type { World } from './world.ts';

/** One of the origins. */
export interface Member {
  readonly fence: Fence;
  readonly records: Map<string, Clocked>;
  readonly bytes: Map<Digest, number>;
  /** Of those, what it saw in the backend and may let go. */
  readonly cached: Set<Digest>;
}

/** Returns the clock of a record that stands in the way. */
export function merge(records: Map<string, Clocked>, key: string, record: Clocked): number | undefined {
  const known = records.get(key);
  const standing = joined(known, record);
  records.set(key, standing);
  return isShown(record, standing, false) ? undefined : standing.atMs;
}

/** An owner brings its copy to the backend, or sees that it is there, and may let it go then. */
export function* behindIn(world: World, { fence, bytes, cached }: Member, digest: Digest): Process {
  while (bytes.has(digest) && !cached.has(digest)) {
    yield;
    if (!fence.trust(digest, world.nowMs)) continue;
    const isThere = world.backend.has(digest);
    yield;
    if (!isThere) world.backend.set(digest, world.nowMs);
    yield;
    if (bytes.has(digest)) cached.add(digest);
    fence.done([digest]);
  }
  if (world.chance() < 0.5) return;
  yield;
  if (cached.delete(digest) && bytes.delete(digest)) world.counts.evicted += 1;
}

/** From every owner, merged; owners that lack something get it. */
export function* viewOf(world: World, repository: string): Generator<void, unknown, void> {
  const merged = new Map<string, Clocked>();
  for (const { records } of world.owners(repository)) {
    for (const [key, record] of records) {
      if (key.split(' ')[1] !== repository) continue;
      const known = merged.get(key);
      merged.set(key, joined(known, record));
    }
    yield;
  }
  for (const { records } of world.owners(repository)) {
    for (const [key, record] of merged) merge(records, key, record);
    yield;
  }
  const links = new Map<Digest, GcLink>();
  const referrers: GcReferrer[] = [];
  for (const [key, { atMs, value }] of merged) {
    if (value === undefined) continue;
    const [kind, , first = '', second = ''] = key.split(' ');
    const digest = first as Digest;
    if (kind === 'link')
      links.set(digest, { digest, atMs, sizeBytes: 1, isManifest: world.children.has(digest) });
    else referrers.push({ subject: digest, digest: second as Digest, atMs });
  }
  const roots = new Set<Digest>();
  for (const [key, { digest, history, movedAtMs }] of world.tags) {
    if (!key.startsWith(`${repository} `)) continue;
    if (digest !== undefined || world.nowMs - movedAtMs < world.graceMs)
      for (const one of history) roots.add(one);
  }
  return { roots, links, referrers };
}
