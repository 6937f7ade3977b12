import type { Digest } from '@sepia/base/digest';
import { shardKey } from '@sepia/cluster/cluster';
import { type Peers, refused } from './peers.ts';
import { pagesOf } from './repository-view.ts';

/** Records of layers that are held in memory, those of all owners. */
const MAX_INDEXES = 300_000;

/**
 * Indexes of layers by repository: who has a layer finds its index by the layer's record.
 * @throws `GC_REFUSED` where there are too many
 */
export async function layerIndexes(peers: Peers): Promise<Map<string, Set<Digest>>> {
  const found = new Map<string, Set<Digest>>();
  let count = 0;
  for (const id of peers.ids) {
    const read = async (after: string | undefined) => await peers.layerIndexes(id, after);
    for await (const { upstream, repository, index } of pagesOf(read, ({ layer }) => layer)) {
      if (upstream === undefined || repository === undefined || index === undefined) continue;
      const key = shardKey(upstream, repository);
      const known = found.get(key) ?? new Set();
      found.set(key, known.add(index));
      count += 1;
      if (count > MAX_INDEXES) throw refused(`there are more than ${MAX_INDEXES} records of layers`);
    }
  }
  return found;
}
