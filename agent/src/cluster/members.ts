import { SingleFlight } from '@sepia/base/async/single-flight';
import { CodedError } from '@sepia/base/errors';
import { readElsewhere, throwIfBug } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { headTo } from '@sepia/cluster/api/route';
import type { Cluster } from '@sepia/cluster/cluster';
import { isSilence } from '@sepia/cluster/core/answers';
import { Health, type Rest } from '@sepia/cluster/core/health';
import { candidatesOf, ownersOf } from '@sepia/cluster/ring';
import type { InternalClient } from '@sepia/http/client';
import { ASK_AGAIN_MS, ASK_EVERY_MS, ASK_MS, GONE_MS, HEARD_MS, SILENT_REST_MS } from '../deadlines.ts';
import { Vigil } from './vigil.ts';

/** A member that failed to answer is tried last for this long. */
const REST: Rest = { firstMs: SILENT_REST_MS, maxMs: SILENT_REST_MS };

/** A member to call. */
export interface Target {
  readonly id: string;
  readonly url: string;
}

const NEVER = new AbortController().signal;

/** Calls to members that note who answers, so that the next ones are in the right order. */
export class CallWatch {
  readonly #nowMs: () => number;
  readonly #health: Health;
  readonly #asking = new SingleFlight<string, void>();
  readonly #asker: Pick<InternalClient, 'raw'> | undefined;
  readonly #vigil: Vigil<Target> | undefined;

  /** `asker`: sockets of their own, for questions that must not queue behind the calls that they are about. */
  constructor(nowMs: () => number, asker?: Pick<InternalClient, 'raw'>) {
    this.#nowMs = nowMs;
    this.#health = new Health(nowMs, REST);
    this.#asker = asker;
    if (asker === undefined) return;
    this.#vigil = new Vigil({
      nowMs,
      ask: async (target, signal) =>
        await this.#asking.run(target.id, async (running) => await ask(asker, target, running), signal),
      heardWithin: (id, ms) => this.#health.aliveWithin(id, ms),
    });
  }

  stop(): void {
    this.#vigil?.stop();
  }

  /** Healthy members first, the order kept otherwise. */
  order(targets: readonly Target[]): Target[] {
    return this.#health.orderBy(targets, ({ id }) => id);
  }

  /**
   * Runs what needs any of `targets`, for as long as one of them answers anything: {@link Vigil.attend}.
   * @throws {CodedError} `NO_PEERS` when none does
   */
  async attend<T>(
    targets: readonly Target[],
    work: (signal: AbortSignal) => Promise<T>,
    signal = NEVER,
  ): Promise<T> {
    return await (this.#vigil?.attend(targets, work, signal) ?? work(signal));
  }

  /**
   * Runs a call and notes whether the member answered. An answer that is an error is an answer. One that is silent for
   * `silentAfterMs` is tried last; after `askAfterMs` it is waited for only while it answers small questions.
   * @throws {CodedError} `PEER_HTTP` when it does not; the call is then left to whoever made it
   */
  async watch<T>(
    target: Target,
    silentAfterMs: number,
    call: () => Promise<T>,
    askAfterMs = silentAfterMs,
  ): Promise<T> {
    const { id } = target;
    const late = setTimeout(() => this.#health.failed(id), silentAfterMs);
    const over = new AbortController();
    try {
      const answer = call();
      const gone = this.#untilGone(target, askAfterMs, over.signal);
      readElsewhere(answer);
      readElsewhere(gone);
      const value = await Promise.race([answer, gone]);
      this.#health.answered(id);
      return value;
    } catch (error) {
      if (isSilence(error)) this.#health.failed(id);
      throw error;
    } finally {
      clearTimeout(late);
      over.abort();
    }
  }

  /** Never resolves. @throws {CodedError} `PEER_HTTP` once the member does not answer small questions either */
  async #untilGone(target: Target, afterMs: number, over: AbortSignal): Promise<never> {
    const { id } = target;
    const asker = this.#asker;
    /** Since when nothing that it was asked was answered. */
    let sinceMs: number | undefined;
    let waitMs = this.#health.isSuspect(id) ? 0 : afterMs;
    while (asker !== undefined && (await pause(waitMs, over))) {
      const askedMs = this.#nowMs();
      try {
        waitMs = this.#health.aliveWithin(id, HEARD_MS) ? HEARD_MS : ASK_EVERY_MS;
        if (waitMs === ASK_EVERY_MS)
          await this.#asking.run(id, async (signal) => await ask(asker, target, signal), over);
        sinceMs = undefined;
      } catch (error) {
        throwIfBug(error);
        if (over.aborted) break;
        sinceMs ??= askedMs;
        waitMs = ASK_AGAIN_MS;
        if (this.#nowMs() - sinceMs >= GONE_MS)
          throw new CodedError('PEER_HTTP', { message: `${id} stopped answering`, cause: error });
      }
    }
    return await new Promise<never>(() => {});
  }
}

/** Any answer counts, also that there is nothing of this name. */
async function ask(asker: Pick<InternalClient, 'raw'>, target: Target, signal: AbortSignal): Promise<void> {
  const late = new AbortController();
  const giveUp = (): void => late.abort(new CodedError('PEER_HTTP', { message: `${target.id} is silent` }));
  // What has come is looked at first: on a busy machine that is late too, and would be taken for silence.
  const timer = setTimeout(() => setImmediate(giveUp), ASK_MS);
  try {
    const answer = await asker.raw({
      url: target.url,
      to: target.id,
      ...headTo(ORIGIN_RECORDS.cluster),
      headersTimeoutMs: 2 * ASK_MS,
      signal: AbortSignal.any([signal, late.signal]),
    });
    await answer.body.dump();
  } finally {
    clearTimeout(timer);
  }
}

/** Members by their ids, each with its first URL. All of them stand in the cluster document. */
export function targetsOf(cluster: Cluster, ids: readonly string[]): Target[] {
  return ids.map((id) => ({ id, url: cluster.member(id).urls[0]! }));
}

/** Owners and stand-ins of a digest or shard key, healthy ones first. */
export function originsOf(cluster: Cluster, health: CallWatch, key: string): Target[] {
  return health.order(targetsOf(cluster, candidatesOf(cluster.origins(key))));
}

/** All proxies in the order of this node, so that nodes are spread over them; healthy ones first. */
export function proxiesOf(cluster: Cluster, health: CallWatch, nodeId: string): Target[] {
  return health.order(targetsOf(cluster, ownersOf(nodeId, cluster.members('proxy')).order));
}
