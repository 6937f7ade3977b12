import { answersOf, askAll } from '@sepia/base/async/ask-many';
import { ignoreFailure, readElsewhere } from '@sepia/base/failure';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { BlobFetchState, Where } from '@sepia/cluster/api/blob-answers';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import type { BlobStore } from '@sepia/store/blob-store';
import type { Members } from '../cluster/members.ts';
import type { Others } from '../cluster/others.ts';
import type { Fetches } from '../fetch/fetches.ts';
import type { Blobs } from './blobs.ts';
import type { Replicator } from './replicator.ts';

interface WholeBlobsDeps {
  readonly members: Members;
  readonly store: BlobStore;
  readonly fetches: Fetches;
  readonly blobs: Blobs;
  readonly replicator: Replicator;
}

/** How a preheat wants a blob. */
export interface WholeWish {
  /** `one`: some origin has it. `all`: every owner has it. */
  readonly copies: 'one' | 'all';
  readonly others: Others;
  readonly authorization: string | undefined;
}

/** Brings blobs to origins without a reader: preheating. Joins what runs; progress is told, never guessed. */
export class WholeBlobs {
  readonly #deps: WholeBlobsDeps;

  constructor(deps: WholeBlobsDeps) {
    this.#deps = deps;
  }

  /**
   * Waits until the blob is stored, or until `wait` aborts and then says how far it is; or names the origin that
   * has it or is to fetch it. @throws as `Blobs.open`, and what the fetch fails with
   */
  async want(
    name: BlobName,
    wish: WholeWish,
    wait: AbortSignal,
    signal: AbortSignal,
  ): Promise<BlobFetchState | { readonly remote: string }> {
    const { store, fetches, blobs, members } = this.#deps;
    const link = await blobs.admit(name, signal);
    if (!(await store.has(name.digest))) {
      let fetch = fetches.running(name.digest);
      if (fetch === undefined) {
        const remote = await blobs.elsewhere(name, wish.others);
        if (remote !== undefined) return { remote };
      } else fetch.fetchAll();
      const { authorization } = wish;
      const whole = async (): Promise<void> => {
        fetch ??= await blobs.begin(name, { wantAll: true, sizeHint: link.sizeBytes, authorization }, signal);
        await fetch.whenFinal(signal);
      };
      const isStored = await finished(whole(), wait, signal);
      if (!isStored) {
        const have = fetch?.have?.count ?? 0;
        const share = have / Math.max(1, fetch?.have?.size ?? 1);
        const sizeBytes = fetch?.sizeBytes ?? link.sizeBytes ?? 0;
        return {
          state: 'running',
          sizeBytes,
          haveBytes: Math.floor(share * sizeBytes),
          holders: [],
          failed: {},
        };
      }
    }
    const sizeBytes = (await store.stat(name.digest))?.sizeBytes ?? link.sizeBytes ?? 0;
    const whole = { sizeBytes, haveBytes: sizeBytes };
    if (wish.copies === 'one') return { state: 'final', ...whole, holders: [members.selfId], failed: {} };
    return { ...whole, ...(await this.#spread(name, wait, signal)) };
  }

  /** Copies to every owner that lacks the blob. */
  async #spread(
    name: BlobName,
    wait: AbortSignal,
    signal: AbortSignal,
  ): Promise<Pick<BlobFetchState, 'state' | 'holders' | 'failed'>> {
    const { members, replicator } = this.#deps;
    const owners = members.placement(name.digest).owners.filter((id) => id !== members.selfId);
    const ask = async (id: string): Promise<'holder' | 'running'> => {
      const asked = members.json<Where>(id, to(ORIGIN_BLOBS.where, name));
      const state = (await asked.catch(ignoreFailure))?.state ?? 'silent';
      const isThere = state === 'final' || (await finished(replicator.copyTo(name, id), wait, signal));
      return isThere ? 'holder' : 'running';
    };
    const holders: string[] = [members.selfId];
    const failed: Record<string, string> = {};
    const said = await askAll(owners, ask, { signal });
    for (const one of said)
      if (one.type !== 'answer') failed[one.by] = messageOf(one.error);
      else if (one.answer === 'holder') holders.push(one.by);
    return { state: answersOf(said).includes('running') ? 'running' : 'final', holders, failed };
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** True when `work` ended before `wait` did; it goes on all the same. @throws what it fails with, or the signal's reason */
async function finished(work: Promise<void>, wait: AbortSignal, signal: AbortSignal): Promise<boolean> {
  const done = work.then(() => true as const);
  readElsewhere(done);
  const over = new Promise<false>((resolve) => {
    const end = AbortSignal.any([wait, signal]);
    if (end.aborted) resolve(false);
    end.addEventListener('abort', () => resolve(false), { once: true });
  });
  const isDone = await Promise.race([done, over]);
  if (!isDone) signal.throwIfAborted();
  return isDone;
}
