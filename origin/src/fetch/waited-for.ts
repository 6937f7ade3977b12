import { delay } from '@sepia/base/lifecycle';
import { MAX_YIELD_MS, YIELD_LOOK_MS } from '../deadlines/upstreams.ts';
import type { FetchJob } from './core/fetch-plan.ts';

/** The connections of one fetch that readers wait for; others leave the line to the upstream to them. */
export class WaitedFor {
  #count = 0;

  /** Runs the connection of `job`. */
  async during(job: FetchJob, run: () => Promise<void>): Promise<void> {
    if (job.urgent) this.#count += 1;
    try {
      await run();
    } finally {
      if (job.urgent) this.#count -= 1;
    }
  }

  /**
   * Resolves when `job` may go on: at once if it is waited for itself, else when no other is, or after
   * {@link MAX_YIELD_MS}. Rejects with `signal`.
   */
  async turn(job: FetchJob | undefined, signal: AbortSignal): Promise<void> {
    if (job?.urgent === true) return;
    const untilMs = performance.now() + MAX_YIELD_MS;
    while (this.#count > 0 && performance.now() < untilMs) await delay(YIELD_LOOK_MS, signal);
  }
}
