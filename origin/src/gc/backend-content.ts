import type { BackendEntry, BlobBackend } from '@sepia/backend/blob-backend';
import { fewAtOnce } from '@sepia/base/async/few-at-once';
import type { Digest } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { BACKEND_DELETE_MS, BACKEND_SKEW_MS } from '../deadlines/upstreams.ts';
import type { Fence } from '../fence/core/fence.ts';
import type { GcWithdrawn } from './core/sweep.ts';

/** Blobs of one batch: what a slow store deletes while they are condemned. */
const BATCH = 4_000;
const DELETES_AT_ONCE = 16;

interface BackendContentDeps {
  readonly upstream: string;
  readonly backend: Pick<BlobBackend, 'place' | 'claim' | 'requireFree' | 'listBlobs' | 'deleteBlob'>;
  /** Nothing is written there, its mark neither. */
  readonly isDry: boolean;
  /** Name of this cluster at backends. */
  readonly owner: string;
  /** Of the leader. */
  readonly fence: Pick<Fence, 'mayRemove' | 'isCondemned'>;
  readonly elapsedMs: () => number;
  readonly log: Logger;
  readonly signal: AbortSignal;
}

/** What a backend of an upstream of mode none holds, for the leader of a sweep. */
export class BackendContent {
  /** Blobs that are older than all records, and are therefore nobody's to judge. */
  older = 0;
  /** Why there may be more than was told or taken. */
  left: string | undefined;
  readonly #deps: BackendContentDeps;

  constructor(deps: BackendContentDeps) {
    this.#deps = deps;
  }

  /**
   * Blobs that were written before `beforeMs`, by the backend's clock, a batch at a time. What is older than `sinceMs`,
   * the first record of the cluster, is left out: it is somebody else's, or its records were lost. Ends early where
   * something is {@link left}.
   */
  async *candidates(beforeMs: number, sinceMs: number): AsyncGenerator<BackendEntry[], void, void> {
    let batch: BackendEntry[] = [];
    for await (const entry of this.#listed()) {
      if (entry.writtenMs > beforeMs) continue;
      if (entry.writtenMs < sinceMs - BACKEND_SKEW_MS) {
        this.older += 1;
        continue;
      }
      batch.push(entry);
      if (batch.length < BATCH) continue;
      yield batch;
      if (this.left !== undefined) return;
      batch = [];
    }
    if (batch.length > 0) yield batch;
  }

  async *#listed(): AsyncGenerator<BackendEntry, void, void> {
    const { backend, owner, isDry, signal, log, upstream } = this.#deps;
    try {
      // What another cluster keeps there is linked by none of this one.
      await (isDry ? backend.requireFree(owner, signal) : backend.claim(owner, signal));
      yield* backend.listBlobs(undefined, signal);
    } catch (error) {
      throwIfBug(error);
      signal.throwIfAborted();
      this.#leave(error);
      log.warn({ err: error, upstream }, 'backend was not listed to its end for garbage collection');
    }
  }

  #leave(error: unknown): void {
    this.left ??= isCoded(error) ? error.message : `${this.#deps.backend.place} does not answer in time`;
  }

  /** Deletes what the sweep may remove at this moment; stops at the first failure. @throws only what is a bug or a stop */
  async withdraw(generation: string, digests: readonly Digest[]): Promise<GcWithdrawn> {
    const { backend, fence, elapsedMs, signal, log, upstream } = this.#deps;
    const gone: Digest[] = [];
    let isUnclear = false;
    await fewAtOnce(digests, DELETES_AT_ONCE, async (digest) => {
      if (this.left !== undefined) return;
      if (!fence.mayRemove(generation, digest, elapsedMs())) {
        // What is condemned still was too late; the rest was rescued.
        if (fence.isCondemned(digest, elapsedMs()))
          this.left = 'there was no time for all of it; the next collection goes on';
        return;
      }
      try {
        await backend.deleteBlob(
          { digest },
          AbortSignal.any([signal, AbortSignal.timeout(BACKEND_DELETE_MS)]),
        );
        gone.push(digest);
      } catch (error) {
        signal.throwIfAborted();
        const isLate = (error as { readonly name?: unknown }).name === 'TimeoutError';
        if (!isLate) throwIfBug(error);
        log.warn({ err: error, upstream, digest }, 'blob was not deleted from its backend');
        this.#leave(error);
        // A store that refused did nothing.
        if (!isCoded(error, 'UPSTREAM_DENIED') && !isCoded(error, 'UPSTREAM_LIMITED')) isUnclear = true;
      }
    });
    return { digests: gone, isUnclear };
  }
}
