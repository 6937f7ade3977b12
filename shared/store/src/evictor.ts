import type { Digest } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import type { BlobFiles } from './blob-files.ts';
import { type Budget, decideEvictions, keepReason, mustEvict } from './core/eviction.ts';
import type { BlobAttrs } from './sidecar.ts';
import { type ListedBlob, listBlobs, type UsageCounter } from './usage.ts';

/** How many of the oldest blobs one walk keeps in memory. */
const OLDEST_KEPT = 20_000;
const BATCH = 64;

/** How many blobs an eviction run let go, and how many bytes they had. */
export interface EvictionResult {
  readonly count: number;
  readonly freedBytes: number;
}

interface EvictorDeps {
  readonly blobs: BlobFiles;
  readonly usage: UsageCounter;
  /** Bytes of the budget that are no blobs yet. */
  readonly partialBytes: () => number;
  readonly isOpen: (digest: Digest) => boolean;
  /** A further veto (under-replicated, of mode `none`). */
  readonly mayEvict: (digest: Digest, attrs: BlobAttrs) => boolean | Promise<boolean>;
  readonly onEvicted: (digest: Digest, sizeBytes: number) => void;
}

/** Lets blobs go, least recently used first, when usage is above the high watermark. One run at a time. */
export class Evictor {
  readonly #deps: EvictorDeps;
  #budget: Budget;
  #running: Promise<EvictionResult> | undefined;

  constructor(deps: EvictorDeps, budget: Budget) {
    this.#deps = deps;
    this.#budget = budget;
  }

  /** Evicts down to the low watermark if usage is above the high one; joins a run under way. */
  run(): Promise<EvictionResult> {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  /** Another budget, from the next run on. */
  adjust(budget: Budget): void {
    this.#budget = budget;
  }

  /** True if a run would do something. */
  get due(): boolean {
    return mustEvict(this.#usedBytes, this.#budget);
  }

  get #usedBytes(): number {
    return this.#deps.usage.bytes + this.#deps.partialBytes();
  }

  async #run(): Promise<EvictionResult> {
    let count = 0;
    let freedBytes = 0;
    if (!this.due) return { count, freedBytes };
    const oldest = await this.#oldest();
    for (let at = 0; at < oldest.length; at += BATCH) {
      const candidates = await this.#candidates(oldest.slice(at, at + BATCH));
      const decisions = decideEvictions(candidates, this.#usedBytes, this.#budget);
      for (const [index, { digest, evict, reason }] of decisions.entries()) {
        if (reason === 'low-watermark') return { count, freedBytes };
        if (!evict) continue;
        const freed = await this.#evict(digest as Digest, candidates[index]!.attrs);
        freedBytes += freed;
        if (freed > 0) count += 1;
      }
    }
    return { count, freedBytes };
  }

  /** `seen`: what the veto was asked about; one that was pushed since stays. */
  async #evict(digest: Digest, seen: BlobAttrs): Promise<number> {
    const { blobs, isOpen, onEvicted } = this.#deps;
    const keep = (attrs: BlobAttrs): boolean => keepReason({ open: isOpen(digest), attrs }) !== undefined;
    const stays = (sidecar: { readonly attrs: BlobAttrs } | undefined): boolean =>
      sidecar === undefined || sidecar.attrs.class !== seen.class || keep(sidecar.attrs);
    const freed = (await ifReadable(blobs.remove(digest, stays))) ?? 0;
    if (freed > 0) onEvicted(digest, freed);
    return freed;
  }

  async #candidates(listed: readonly ListedBlob[]) {
    const found = [];
    for (const { digest, sizeBytes } of listed) {
      const sidecar = await ifReadable(this.#deps.blobs.find(digest));
      if (sidecar === undefined || !(await this.#deps.mayEvict(digest, sidecar.attrs))) continue;
      found.push({ digest, sizeBytes, open: this.#deps.isOpen(digest), attrs: sidecar.attrs });
    }
    return found;
  }

  async #oldest(): Promise<ListedBlob[]> {
    let kept: ListedBlob[] = [];
    const byAge = (a: ListedBlob, b: ListedBlob): number =>
      a.accessedMs - b.accessedMs || (a.digest < b.digest ? -1 : 1);
    for await (const blob of listBlobs(this.#deps.blobs)) {
      kept.push(blob);
      if (kept.length >= OLDEST_KEPT * 2) kept = kept.sort(byAge).slice(0, OLDEST_KEPT);
    }
    return kept.sort(byAge);
  }
}

/** Whether a blob that the disk does not read may go is not known: it stays, and holds up no other. */
async function ifReadable<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (!isCoded(error, 'DISK_CORRUPT')) throw error;
    return undefined;
  }
}
