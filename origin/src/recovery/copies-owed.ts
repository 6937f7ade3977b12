import { inTurns } from '@sepia/base/async/in-turns';
import { type Digest, isDigest } from '@sepia/base/digest';
import type { Cluster } from '@sepia/cluster/cluster';
import type { BlobStore } from '@sepia/store/blob-store';
import type { Hints } from '../blobs/hints.ts';
import type { Replicator } from '../blobs/replicator.ts';
import { oneNameOf } from '../blobs/unknown-name.ts';

/** Copies that are noted at once. */
const AT_ONCE = 32;

interface CopiesOwedDeps {
  readonly store: BlobStore;
  readonly hints: Hints;
  readonly replicator: Pick<Replicator, 'retrySoon'>;
  readonly cluster: Pick<Cluster, 'upstreams'>;
}

/** Blobs that another owner lacks: owed to it from then on, durably, and sent by the replicator. */
export class CopiesOwed {
  readonly #deps: CopiesOwedDeps;

  constructor(deps: CopiesOwedDeps) {
    this.#deps = deps;
  }

  /** Notes copies of `digests` as owed to `target`. Returns how many, and which blobs are not here. */
  async add(target: string, digests: readonly string[]): Promise<{ owed: number; lacking: Digest[] }> {
    const { store, hints, cluster } = this.#deps;
    const lacking: Digest[] = [];
    let owed = 0;
    const one = async (digest: Digest): Promise<void> => {
      const stat = await store.stat(digest);
      if (stat === undefined) {
        lacking.push(digest);
        return;
      }
      const name = oneNameOf(cluster, stat.attrs.provenance);
      if (name === undefined) return;
      await hints.add({ digest, target, upstream: name.upstream, repository: name.repository });
      owed += 1;
    };
    // Several at once share a commit.
    for await (const some of inTurns(digests.filter(isDigest), AT_ONCE)) await Promise.all(some.map(one));
    this.#deps.replicator.retrySoon(target);
    return { owed, lacking };
  }
}
