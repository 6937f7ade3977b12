import { LinkedAbort } from '@sepia/base/async/linked-abort';
import { CodedError } from '@sepia/base/errors';
import { goneSignal } from '@sepia/http/client-gone';
import type { Context } from 'koa';
import { SYNC_MS } from '../deadlines.ts';
import type { JobWatch } from '../events/job-watch.ts';
import type { AcceldTask } from './acceld.ts';

interface Deps {
  readonly watch: Pick<JobWatch, 'views'>;
  /** Aborted when this accelerator stops. */
  readonly stopping: AbortSignal;
}

/** Requests that wait at once; more are refused. */
export const MAX_WAITING = 100;

/** Requests that wait until their jobs ended: `sync=true` of acceleration-service, and its `accelctl task create --sync`. */
export class SyncRequests {
  readonly #deps: Deps;
  readonly #limitMs: number;
  #waiting = 0;

  constructor(deps: Deps, options: { readonly limitMs?: number } = {}) {
    this.#deps = deps;
    this.#limitMs = options.limitMs ?? SYNC_MS;
  }

  /**
   * Has `add` put jobs into the queue, and returns once they all ended well. The jobs go on when the client goes.
   * @throws {CodedError} `CONVERT_FAILED` with the first reason; `MEMBER_BUSY` before anything was added; `TIMEOUT` after
   * an hour; what `add` throws
   */
  async after(ctx: Context, add: () => Promise<readonly string[]>): Promise<void> {
    if (this.#waiting >= MAX_WAITING)
      throw new CodedError('MEMBER_BUSY', {
        message: `${MAX_WAITING} requests wait already; ask without sync`,
      });
    this.#waiting += 1;
    const late = new CodedError('TIMEOUT', { message: 'the job did not end in time; it goes on' });
    const over = new LinkedAbort(this.#deps.stopping, goneSignal(ctx));
    const timer = setTimeout(() => over.abort(late), this.#limitMs);
    try {
      const ids = await add();
      if (ids.length > 0) await this.#ends(new Set(ids), over.signal);
    } finally {
      clearTimeout(timer);
      over.unlink();
      this.#waiting -= 1;
    }
  }

  async #ends(left: Set<string>, signal: AbortSignal): Promise<void> {
    const seen = new Set<string>();
    for await (const { jobs, ended } of this.#deps.watch.views(signal)) {
      for (const id of left) {
        const text = jobs.get(id);
        if (text !== undefined) seen.add(id);
        // One that is no longer listed ended, and was followed by many others.
        if (text === undefined ? !seen.has(id) : !ended.has(id)) continue;
        left.delete(id);
        if (text === undefined) continue;
        const { status, reason, source } = JSON.parse(text) as AcceldTask;
        if (status === 'FAILED') throw new CodedError('CONVERT_FAILED', { message: `${source}: ${reason}` });
      }
      if (left.size === 0) return;
    }
  }
}
