import { askAll } from '@sepia/base/async/ask-many';
import { backoffMs } from '@sepia/base/async/backoff';
import type { Digest } from '@sepia/base/digest';
import type { Logger } from '@sepia/base/log';
import type { Where } from '@sepia/cluster/api/blob-answers';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import type { Cluster } from '@sepia/cluster/cluster';
import { isMoving } from '@sepia/cluster/membership';
import type { BlobStore } from '@sepia/store/blob-store';
import type { Provenance } from '@sepia/store/sidecar';
import type { BlobIndex } from '../blobs/blob-index.ts';
import { knowsPushes } from '../blobs/core/brought-by.ts';
import type { Hints } from '../blobs/hints.ts';
import { oneNameOf } from '../blobs/unknown-name.ts';
import type { Members } from '../cluster/members.ts';
import { MAX_LEFTOVER_REST_MS, PASS_REST_MS } from '../deadlines/members.ts';
import type { OwnStanding } from '../records/own-standing.ts';
import type { CopiesOwed } from '../recovery/copies-owed.ts';
import type { Upstreams } from '../upstream/upstreams.ts';

interface LeftoversDeps {
  readonly members: Pick<Members, 'selfId' | 'epoch' | 'placement' | 'isSuspect' | 'json'>;
  readonly cluster: Pick<Cluster, 'upstreams'>;
  readonly standing: Pick<OwnStanding, 'isSettled'>;
  readonly index: Pick<BlobIndex, 'list' | 'unlist'>;
  readonly store: Pick<BlobStore, 'stat' | 'setAttrs'>;
  readonly hints: Pick<Hints, 'owes'>;
  readonly copies: Pick<CopiesOwed, 'add'>;
  readonly upstreams: Pick<Upstreams, 'keepsPushes'>;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/**
 * Pushed blobs that moved to other origins. Once all of their owners say that they have them, as pushed ones, the copy
 * here is one of the cache: it may still be read, and goes when room is needed.
 */
export class Leftovers {
  readonly #deps: LeftoversDeps;
  #count: { readonly epoch: number; readonly left: number } | undefined;
  /** Passes in a row that confirmed nothing; the next one is due at `#dueMs`, or under another epoch. */
  #idlePasses = 0;
  #dueMs = 0;
  #passEpoch = -1;

  constructor(deps: LeftoversDeps) {
    this.#deps = deps;
  }

  /** How many their owners did not confirm when they were looked at last; undefined before that, under this membership. */
  get count(): number | undefined {
    const { epoch } = this.#deps.members;
    if (epoch === 0) return 0;
    return this.#count?.epoch === epoch ? this.#count.left : undefined;
  }

  /**
   * Looks through all pushed blobs here, once for each membership and again while some are left: ever less often as long
   * as nothing is confirmed.
   */
  async tidy(signal: AbortSignal): Promise<void> {
    const { members, standing, nowMs } = this.#deps;
    const { epoch } = members;
    // Under the first membership nothing ever moved.
    if (epoch === 0 || isMoving({ epoch }) || !standing.isSettled || this.count === 0) return;
    if (this.#passEpoch !== epoch) this.#idlePasses = 0;
    else if (nowMs() < this.#dueMs) return;
    this.#passEpoch = epoch;
    const tidied = await this.#pass(epoch, signal);
    this.#idlePasses = tidied > 0 ? 1 : this.#idlePasses + 1;
    this.#dueMs = nowMs() + backoffMs(this.#idlePasses, PASS_REST_MS, MAX_LEFTOVER_REST_MS);
  }

  /** How many are cached ones now. */
  async #pass(epoch: number, signal: AbortSignal): Promise<number> {
    const { members, index, log } = this.#deps;
    let [left, tidied] = [0, 0];
    for await (const digest of index.list()) {
      signal.throwIfAborted();
      if (members.epoch !== epoch) return tidied;
      const { owners } = members.placement(digest);
      if (owners.includes(members.selfId)) continue;
      const seen = await this.#seenByAll(digest, owners, epoch, signal);
      if (seen !== undefined && (await this.#yield(digest, seen))) tidied += 1;
      else left += 1;
    }
    this.#count = { epoch, left };
    if (tidied > 0) log.info({ tidied, left, epoch }, 'pushed blobs that moved away are cached ones now');
    return tidied;
  }

  /** The provenance of the blob here, if all its owners have it as pushed with that provenance. */
  async #seenByAll(
    digest: Digest,
    owners: readonly string[],
    epoch: number,
    signal: AbortSignal,
  ): Promise<readonly Provenance[] | undefined> {
    const { members, cluster, store, hints, copies, upstreams } = this.#deps;
    // All must say that they have it: the others are not asked for nothing.
    if (owners.some((id) => members.isSuspect(id))) return undefined;
    if (await hints.owes(digest)) return undefined;
    const stat = await store.stat(digest);
    // The cache let it go before the list did.
    if (stat === undefined) return [];
    const { provenance } = stat.attrs;
    const name = oneNameOf(cluster, provenance);
    if (name === undefined) return undefined;
    const call = { ...to(ORIGIN_BLOBS.where, { ...name, digest }), epoch };
    const said = await askAll(
      owners,
      async (id, over) => await members.json<Where>(id, { ...call, signal: over }),
      { signal },
    );
    const keeps = (upstream: string): boolean => upstreams.keepsPushes(upstream);
    let isPushed = true;
    for (const one of said) {
      if (one.type === 'answer' && knowsPushes(one.answer, provenance, keeps)) continue;
      isPushed = false;
      // It has the blob, and does not know of pushes that brought it: a copy tells it of them.
      if (one.type === 'answer' && knowsPushes(one.answer, [], keeps)) await copies.add(one.by, [digest]);
    }
    return members.epoch === epoch && isPushed ? provenance : undefined;
  }

  /**
   * False if it was pushed by something else since its owners were asked. In this order: after a kill between the two it is
   * still on the list, and looked at again.
   */
  async #yield(digest: Digest, seen: readonly Provenance[]): Promise<boolean> {
    const { store, index } = this.#deps;
    const isSeen = ({ upstream, repository }: Provenance): boolean =>
      seen.some((one) => one.upstream === upstream && one.repository === repository);
    const attrs = await store.setAttrs(digest, (now) =>
      now.provenance.every(isSeen) ? { ...now, class: 'cached' } : now,
    );
    if (attrs?.class === 'pushed') return false;
    await index.unlist(store, digest);
    return true;
  }
}
