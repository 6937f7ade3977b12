import { backoffMs } from '@sepia/base/async/backoff';
import { afterOwnMs, ownPause } from '@sepia/base/async/own-wait';
import { SingleFlight } from '@sepia/base/async/single-flight';
import { CodedError } from '@sepia/base/errors';
import { readElsewhere, throwIfBug } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import { isOutOfFiles } from '@sepia/base/system/open-files';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { headTo } from '@sepia/cluster/api/route';
import type { Cluster } from '@sepia/cluster/cluster';
import { isSilence } from '@sepia/cluster/core/answers';
import { Health, type Rest } from '@sepia/cluster/core/health';
import { candidatesOf, ownersOf } from '@sepia/cluster/ring';
import { AnswerPace } from '@sepia/http/answer-pace';
import { FILLED } from '@sepia/http/app';
import type { InternalClient } from '@sepia/http/client';
import {
  ASK_AGAIN_MS,
  ASK_EVERY_MS,
  ASK_MS,
  GONE_MS,
  HEARD_MS,
  LEAST_LATE_MS,
  SILENT_REST_MS,
} from '../deadlines.ts';
import { Vigil } from './vigil.ts';

/** A member that failed to answer is tried last for this long. */
const REST: Rest = { firstMs: SILENT_REST_MS, maxMs: SILENT_REST_MS };

/** A member to call. */
export interface Target {
  readonly id: string;
  readonly url: string;
}

const NEVER = new AbortController().signal;

type Asker = Pick<InternalClient, 'raw'>;

/** Calls to members that note who answers, so that the next ones are in the right order. */
export class CallWatch {
  readonly #nowMs: () => number;
  readonly #health: Health;
  readonly #asking = new SingleFlight<string, void>();
  /** Which members answer small questions in time. One that does not is tried last for a while, but not given up. */
  readonly #prompt: Health;
  /** How fast members answer what needs no thought. */
  readonly #pace = new AnswerPace();
  readonly #asker: Asker | undefined;
  readonly #vigil: Vigil<Target> | undefined;

  /** `asker`: sockets of their own, for questions that must not queue behind the calls that they are about. */
  constructor(nowMs: () => number, asker?: Asker) {
    this.#nowMs = nowMs;
    this.#health = new Health(nowMs, REST);
    this.#prompt = new Health(nowMs, REST);
    this.#asker = asker;
    if (asker === undefined) return;
    this.#vigil = new Vigil({
      nowMs,
      ask: async (target, signal) =>
        await this.#asking.run(target.id, async (running) => await this.#ask(asker, target, running), signal),
      heardWithin: (id, ms) => this.#health.aliveWithin(id, ms),
    });
  }

  stop(): void {
    this.#vigil?.stop();
  }

  /** Healthy members first, then those that are doubted; the order kept otherwise. */
  order(targets: readonly Target[]): Target[] {
    const idOf = ({ id }: Target): string => id;
    return this.#health.orderBy(this.#prompt.orderBy(targets, idOf), idOf);
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
      this.#prompt.answered(id);
      return value;
    } catch (error) {
      if (isSilence(error)) this.#health.failed(id);
      throw error;
    } finally {
      clearTimeout(late);
      over.abort();
    }
  }

  /**
   * As {@link watch}, of a call that another member answers as well: from `doubtMs` on it is asked something small, unless it
   * answered anything since. When it is late with that it is tried last for a while, and `doubt` is called, once; its answer
   * counts all the same. Each question doubles the time until the next: one that only has nothing to tell costs a few.
   */
  async watchClosely<T>(
    target: Target,
    silentAfterMs: number,
    call: () => Promise<T>,
    { doubtMs, doubt }: { readonly doubtMs: number; readonly doubt: () => void },
  ): Promise<T> {
    const over = new AbortController();
    try {
      const answer = this.watch(target, silentAfterMs, call);
      const watching = this.#doubtWhenLate(target, doubtMs, doubt, over.signal);
      readElsewhere(answer);
      readElsewhere(watching);
      return await Promise.race([answer, watching]);
    } finally {
      over.abort();
    }
  }

  /** As {@link watch}, of a call that needs no thought: it tells how fast members answer. */
  async watchQuick<T>(target: Target, silentAfterMs: number, call: () => Promise<T>): Promise<T> {
    const askedMs = this.#nowMs();
    const answer = await this.watch(target, silentAfterMs, call);
    this.#note(this.#nowMs() - askedMs);
    return answer;
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
          await this.#asking.run(id, async (signal) => await this.#ask(asker, target, signal), over);
        sinceMs = undefined;
      } catch (error) {
        throwIfBug(error);
        if (over.aborted) break;
        waitMs = ASK_AGAIN_MS;
        // Own want of sockets says nothing of others.
        if (isOutOfFiles(error)) continue;
        sinceMs ??= askedMs;
        if (this.#nowMs() - sinceMs >= GONE_MS)
          throw new CodedError('PEER_HTTP', { message: `${id} stopped answering`, cause: error });
      }
    }
    return await new Promise<never>(() => {});
  }

  /** Never resolves: whoever waits for the answer goes on to. */
  async #doubtWhenLate(
    target: Target,
    doubtMs: number,
    doubt: () => void,
    over: AbortSignal,
  ): Promise<never> {
    const { id } = target;
    const asker = this.#asker;
    let rounds = 0;
    let waitMs = this.#prompt.isSuspect(id) ? 0 : doubtMs;
    while (asker !== undefined && (await pause(waitMs, over))) {
      if (waitMs === 0 || !this.#prompt.aliveWithin(id, waitMs / 2)) {
        const isLate = !(await this.#answersInTime(asker, target, over));
        if (over.aborted) break;
        if (isLate) {
          this.#prompt.failed(id);
          doubt();
          break;
        }
      }
      rounds += 1;
      waitMs = backoffMs(rounds, doubtMs, ASK_EVERY_MS);
    }
    return await new Promise<never>(() => {});
  }

  async #answersInTime(asker: Asker, target: Target, over: AbortSignal): Promise<boolean> {
    const done = new AbortController();
    const ask = async (): Promise<boolean> => {
      try {
        // It goes on for its own time: an answer that comes after all makes the next wait longer.
        await this.#asking.share(target.id, async () => await this.#ask(asker, target, NEVER), over);
        return true;
      } catch (error) {
        throwIfBug(error);
        return isOutOfFiles(error);
      }
    };
    try {
      return await Promise.race([ask(), ownPause(this.#lateMs, done.signal).then(() => false)]);
    } finally {
      done.abort();
    }
  }

  async #ask(asker: Asker, target: Target, signal: AbortSignal): Promise<void> {
    const askedMs = this.#nowMs();
    await ask(asker, target, signal);
    this.#prompt.answered(target.id);
    this.#note(this.#nowMs() - askedMs);
  }

  /** One that was late says that the wait is too short, and not how long answers take: it may have stood still. */
  #note(ms: number): void {
    if (ms > this.#lateMs) this.#pace.missed();
    else this.#pace.note(ms);
  }

  get #lateMs(): number {
    return this.#pace.timeoutMs(LEAST_LATE_MS, GONE_MS);
  }
}

/** Asks a member something small, for an answer that fills a packet. Any one is a sign of life, also a 404. */
async function ask(asker: Asker, target: Target, signal: AbortSignal): Promise<void> {
  const late = new AbortController();
  const giveUp = (): void => late.abort(new CodedError('PEER_HTTP', { message: `${target.id} is silent` }));
  const answered = afterOwnMs(ASK_MS, giveUp);
  try {
    const answer = await asker.raw({
      url: target.url,
      to: target.id,
      ...headTo(ORIGIN_RECORDS.cluster),
      headers: FILLED,
      headersTimeoutMs: 2 * ASK_MS,
      signal: AbortSignal.any([signal, late.signal]),
    });
    await answer.body.dump();
  } finally {
    answered();
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
