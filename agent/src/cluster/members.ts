import type { Cluster } from '@sepia/cluster/cluster';
import { isSilence } from '@sepia/cluster/core/answers';
import { Health, type Rest } from '@sepia/cluster/core/health';

/** A member that failed to answer is tried last for this long. */
const REST: Rest = { firstMs: 5_000, maxMs: 5_000 };

/** A member to call. */
export interface Target {
  readonly id: string;
  readonly url: string;
}

/** Calls to members that note who answers, so that the next ones are in the right order. */
export class CallWatch {
  readonly #health: Health;

  constructor(nowMs: () => number) {
    this.#health = new Health(nowMs, REST);
  }

  /** Healthy members first, the order kept otherwise. */
  order(targets: readonly Target[]): Target[] {
    return this.#health.orderBy(targets, ({ id }) => id);
  }

  /** Runs a call and notes whether the member answered. An answer that is an error is an answer. */
  async watch<T>({ id }: Target, silentAfterMs: number, call: () => Promise<T>): Promise<T> {
    const late = setTimeout(() => this.#health.failed(id), silentAfterMs);
    try {
      const value = await call();
      this.#health.answered(id);
      return value;
    } catch (error) {
      if (isSilence(error)) this.#health.failed(id);
      throw error;
    } finally {
      clearTimeout(late);
    }
  }
}

export function targetsOf(cluster: Cluster, ids: readonly string[]): Target[] {
  return ids.map((id) => ({ id, url: cluster.member(id).urls[0]! }));
}
