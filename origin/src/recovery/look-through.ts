import { backoffMs } from '@sepia/base/async/backoff';
import { isCoded } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import type { BlobStore } from '@sepia/store/blob-store';
import type { BlobIndex } from '../blobs/blob-index.ts';
import { LOOK_THROUGH_AGAIN_MS, MAX_LOOK_THROUGH_AGAIN_MS } from '../deadlines/members.ts';

interface LookThroughDeps {
  readonly index: Pick<BlobIndex, 'build' | 'findLost'>;
  readonly store: BlobStore;
  readonly log: Logger;
}

/** Behind a start: compares the disk with the index of pushed blobs; before that nothing is said of what is owed. */
export class LookThrough {
  readonly #deps: LookThroughDeps;
  readonly #firstAgainMs: number;
  readonly #stopped = new AbortController();
  #running: Promise<void> | undefined;
  #isDone = false;
  #failure: string | undefined;

  constructor(deps: LookThroughDeps, options: { readonly firstAgainMs?: number } = {}) {
    this.#deps = deps;
    this.#firstAgainMs = options.firstAgainMs ?? LOOK_THROUGH_AGAIN_MS;
  }

  get isDone(): boolean {
    return this.#isDone;
  }

  /** In words, for `/readyz`; empty if nothing kept it from looking. */
  get warnings(): string[] {
    if (this.#failure === undefined) return [];
    return [
      `under-replicated: whether all pushed blobs are here is not known (${this.#failure}); it is looked for again`,
    ];
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Idempotent. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopped;
    for (let failures = 1; !signal.aborted; failures++) {
      try {
        await this.#look(signal);
        this.#failure = undefined;
        return;
      } catch (error) {
        this.#failure = isCoded(error) ? `${error.code}: ${error.message}` : (error as Error).message;
        logFailure(this.#deps.log, error, 'pushed blobs were not looked through', {}, 'error');
      }
      await pause(backoffMs(failures, this.#firstAgainMs, MAX_LOOK_THROUGH_AGAIN_MS), signal);
    }
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { index, store, log } = this.#deps;
    await index.build(store, signal);
    const lost = await index.findLost(store, signal);
    if (signal.aborted) return;
    this.#isDone = true;
    if (lost > 0)
      log.error({ blobs: lost }, 'pushed blobs are gone from the disk: their copies are made again');
  }
}
