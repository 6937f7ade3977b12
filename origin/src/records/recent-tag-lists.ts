import { shardKey } from '@sepia/cluster/cluster';
import type { ShardName } from './own-records.ts';

interface Kept {
  readonly tags: readonly string[];
  readonly timer: NodeJS.Timeout;
}

/** Whole tag lists as upstreams sent them a moment ago, for those who read them page by page; the oldest make room. */
export class RecentTagLists {
  readonly #lists = new Map<string, Kept>();
  readonly #limits: { readonly keepMs: number; readonly maxTags: number };
  #tags = 0;

  /** @param limits how long a list is kept, and how many tags all of them have at most */
  constructor(limits: { readonly keepMs: number; readonly maxTags: number }) {
    this.#limits = limits;
  }

  get(name: ShardName): readonly string[] | undefined {
    return this.#lists.get(keyOf(name))?.tags;
  }

  /** `tags` must not change any more. One list with more tags than all may have is not kept. */
  keep(name: ShardName, tags: readonly string[]): void {
    const { keepMs, maxTags } = this.#limits;
    const key = keyOf(name);
    this.#drop(key);
    if (tags.length > maxTags) return;
    for (const oldest of this.#lists.keys()) {
      if (this.#tags + tags.length <= maxTags) break;
      this.#drop(oldest);
    }
    const timer = setTimeout(() => this.#drop(key), keepMs).unref();
    this.#lists.set(key, { tags, timer });
    this.#tags += tags.length;
  }

  #drop(key: string): void {
    const kept = this.#lists.get(key);
    if (kept === undefined) return;
    clearTimeout(kept.timer);
    this.#lists.delete(key);
    this.#tags -= kept.tags.length;
  }
}

function keyOf({ upstream, repository }: ShardName): string {
  return shardKey(upstream, repository);
}
