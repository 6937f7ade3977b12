import { shardKey } from '@sepia/cluster/cluster';
import { type RecordSpace as BackupSpace, shardOfRecord } from '@sepia/records/core/record-space';
import { FLOOR_SPACE } from '@sepia/records/store/floors';

/** Key spaces that owners compare, in the order that they hand them over. `b1`: which pushed blobs are here. */
export const SYNC_SPACES = ['r1', 'l1', 'f1', 'p1', 'j1', 'b1'] as const;
/** A key space that owners compare, see {@link SYNC_SPACES}. */
export type SyncSpace = (typeof SYNC_SPACES)[number];

/** Key spaces whose digests owners compare: those, and the floors, which are taken over otherwise. */
export const COUNTED_SPACES = [...SYNC_SPACES, FLOOR_SPACE] as const;
/** A key space whose digests owners compare, see {@link COUNTED_SPACES}. */
export type CountedSpace = (typeof COUNTED_SPACES)[number];

/** Those of {@link SYNC_SPACES} that hold records of repositories: all but the list of blobs. */
export const RECORD_SPACES = ['r1', 'l1', 'f1', 'p1', 'j1'] as const satisfies readonly SyncSpace[];
/** A key space of records of repositories, see {@link RECORD_SPACES}. */
export type RecordSpace = (typeof RECORD_SPACES)[number];

/** True for the name of a space of {@link COUNTED_SPACES}. */
export function isCountedSpace(space: string): space is CountedSpace {
  return (COUNTED_SPACES as readonly string[]).includes(space);
}

/** The key by which the ring places a record, for its owners; undefined for one that belongs to no shard. */
export function shardOf(space: CountedSpace, key: string): string | undefined {
  if (space === 'b1') return key;
  const found = shardOfRecord(space as BackupSpace, key);
  if (found !== undefined) return shardKey(found.upstream, found.repository);
  // Other registers (those of proxies) are placed by their own key.
  return space === 'r1' && !key.startsWith('tag\0') ? key : undefined;
}
