/** Key spaces that a backup holds, in its order: registers, links, tags, repositories, referrers, jobs. */
export const RECORD_SPACES = ['r1', 'l1', 't1', 'n1', 'f1', 'j1'] as const;
/** A key space that a backup holds, see {@link RECORD_SPACES}. */
export type RecordSpace = (typeof RECORD_SPACES)[number];

/** (upstream, repository) of a record; undefined for what belongs to one origin alone or to nobody. */
export function shardOfRecord(
  space: RecordSpace,
  key: string,
): { readonly upstream: string; readonly repository: string; readonly rest: readonly string[] } | undefined {
  const parts = key.split('\0');
  if (space === 'r1') {
    const [kind, shard = '', tag] = parts;
    const slash = shard.indexOf('/');
    if (kind !== 'tag' || slash <= 0 || tag === undefined) return undefined;
    return { upstream: shard.slice(0, slash), repository: shard.slice(slash + 1), rest: [tag] };
  }
  if (space === 'j1' && parts[0] !== 'replicate') return undefined;
  const [upstream, repository, ...rest] = space === 'j1' ? parts.slice(1) : parts;
  return upstream === undefined || repository === undefined ? undefined : { upstream, repository, rest };
}
