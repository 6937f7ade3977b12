import { firstAnswer } from '@sepia/base/async/ask-many';
import type { Digest } from '@sepia/base/digest';
import { ignoreFailure } from '@sepia/base/failure';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { JoinAnswer, JoinRequest } from '@sepia/cluster/api/join';
import type { LeaseAnswer, LeaseRequest } from '@sepia/cluster/api/lease';
import { to } from '@sepia/cluster/api/route';
import { TRACKER } from '@sepia/cluster/api/tracker';
import type { Cluster } from '@sepia/cluster/cluster';
import { isDecisive, isDefinite } from '@sepia/cluster/core/answers';
import { FIRST_ANSWER_MS } from '@sepia/cluster/deadlines';
import type { MetainfoNews } from '@sepia/http/bodies/metainfo-follower';
import type { InternalClient } from '@sepia/http/client';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { FAREWELL_MS, HEDGE_MS, LEASE_MS } from '../deadlines.ts';
import { type CallWatch, type Target, targetsOf } from './members.ts';

/** Reads an answer of a metainfo poll. @throws what `Metainfo.decode` throws */
export function newsOf(bytes: Uint8Array, etag: string | string[] | undefined): MetainfoNews {
  const metainfo = Metainfo.decode(bytes);
  return { metainfo, etag: typeof etag === 'string' ? etag : metainfo.etag };
}

/** Calls to trackers: join, metainfo long-poll, lease. */
export class TrackerClient {
  readonly #cluster: Cluster;
  readonly #client: InternalClient;
  readonly #health: CallWatch;

  constructor(deps: {
    readonly cluster: Cluster;
    readonly client: InternalClient;
    readonly health: CallWatch;
  }) {
    this.#cluster = deps.cluster;
    this.#client = deps.client;
    this.#health = deps.health;
  }

  /** Ids of the trackers that a digest is told to. */
  trackerIds(digest: Digest): string[] {
    return this.#cluster.trackers(digest).map((member) => member.id);
  }

  /** The same, healthy ones first. */
  targets(digest: Digest): Target[] {
    return this.#health.order(targetsOf(this.#cluster, this.trackerIds(digest)));
  }

  allIds(): string[] {
    return this.#cluster.members('tracker').map((member) => member.id);
  }

  /** Joins at the digest's tracker, or the next that answers. */
  async join(digest: Digest, request: JoinRequest, signal: AbortSignal): Promise<JoinAnswer> {
    const targets = this.targets(digest);
    const ask = (target: Target, abort: AbortSignal): Promise<JoinAnswer> =>
      this.#health.watch(target, HEDGE_MS * 4, () =>
        this.#client.json<JoinAnswer>({
          url: target.url,
          to: target.id,
          ...to(TRACKER.join, { digest }),
          json: request,
          headersTimeoutMs: FIRST_ANSWER_MS.join,
          signal: abort,
        }),
      );
    const join = async (running: AbortSignal): Promise<JoinAnswer> =>
      await firstAnswer(targets, ask, { hedgeAfterMs: HEDGE_MS, signal: running, isFinal: isDecisive });
    return await this.#health.attend(targets, join, signal);
  }

  /**
   * Waits at most `waitMs` for more than the answer with `etag` said; undefined when there was none. A tracker that told nothing
   * for `doubtMs` must show that it is there, or the next is asked beside it.
   */
  async poll(
    name: BlobName,
    known: Metainfo,
    etag: string,
    { waitMs, doubtMs }: { readonly waitMs: number; readonly doubtMs: number },
    signal: AbortSignal,
  ): Promise<MetainfoNews | undefined> {
    const call = to(TRACKER.metainfo, { ...name, wait: waitMs, from: known.knownPrefix });
    const targets = this.targets(name.digest);
    const ask = (target: Target, abort: AbortSignal, doubt: () => void) =>
      this.#health.watchClosely(
        target,
        waitMs + HEDGE_MS,
        () =>
          this.#client.bytes({
            url: target.url,
            to: target.id,
            ...call,
            headers: { 'if-none-match': etag },
            headersTimeoutMs: waitMs + FIRST_ANSWER_MS.join,
            lasts: 'wait',
            signal: abort,
          }),
        { doubtMs, doubt },
      );
    const { status, bytes, headers } = await firstAnswer(targets, ask, {
      hedgeAfterMs: waitMs + HEDGE_MS,
      signal,
      isFinal: isDefinite,
    });
    return status === 304 ? undefined : newsOf(bytes, headers['etag']);
  }

  async renew(trackerId: string, nodeId: string, lease: LeaseRequest): Promise<LeaseAnswer> {
    const [target] = targetsOf(this.#cluster, [trackerId]);
    return await this.#health.watchQuick(target!, LEASE_MS, () =>
      this.#client.json<LeaseAnswer>({
        url: target!.url,
        to: target!.id,
        ...to(TRACKER.lease, { id: nodeId }),
        json: lease,
        headersTimeoutMs: LEASE_MS,
      }),
    );
  }

  /** Says farewell; failures do not matter, the lease runs out. */
  async leave(trackerId: string, nodeId: string): Promise<void> {
    const [target] = targetsOf(this.#cluster, [trackerId]);
    await this.#client
      .call({
        url: target!.url,
        to: target!.id,
        ...to(TRACKER.leave, { id: nodeId }),
        headersTimeoutMs: FAREWELL_MS,
      })
      .then((answer) => answer.body.dump())
      .catch(ignoreFailure);
  }
}
