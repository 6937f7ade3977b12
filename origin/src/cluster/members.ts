import { OVER } from '@sepia/base/async/over';
import { SingleFlight } from '@sepia/base/async/single-flight';
import { CodedError, isCoded } from '@sepia/base/errors';
import { ignoreFailure, throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import { isOutOfFiles } from '@sepia/base/system/open-files';
import { H_EPOCH, H_RECORDS, H_STANDING } from '@sepia/cluster/api/headers';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { headTo } from '@sepia/cluster/api/route';
import type { Cluster } from '@sepia/cluster/cluster';
import { isSilence } from '@sepia/cluster/core/answers';
import type { Health } from '@sepia/cluster/core/health';
import type { Member } from '@sepia/cluster/document';
import { candidatesOf, type Ownership, type Shard } from '@sepia/cluster/ring';
import { FILLED } from '@sepia/http/app';
import type { InternalClient, InternalRequest, InternalResponse } from '@sepia/http/client';
import type { Sender } from '@sepia/records/core/standing';
import { senderOf } from '@sepia/records/sender-header';
import { ATTEND_EVERY_MS, PATIENT_MS, QUICK_MS, SILENT_MS } from '../deadlines/members.ts';

/** So many small questions in a row without an answer, and a long call is given up: one is missed by a busy member too. */
const MISSES = 2;
/** For what nobody else can do in the member's place: who is busy gets time, and one that hangs costs some 5 s. */
export const PATIENT_MISSES = 5;

export type MemberCall = Omit<InternalRequest, 'url' | 'to' | 'headersTimeoutMs'> & {
  readonly headersTimeoutMs?: number;
  /** Aborted after so long without an answer it counts as a failure; default: a small question after {@link SILENT_MS}, others never. */
  readonly silentMs?: number;
  /** Of the membership that the call counts under; the other refuses an older one. */
  readonly epoch?: number;
};

interface MembersDeps {
  readonly cluster: Cluster;
  readonly selfId: string;
  readonly client: InternalClient;
  /** Sockets of its own: who asks whether a member lives never queues behind what it is asked for. */
  readonly prober?: Pick<InternalClient, 'raw'>;
  readonly health: Health;
  readonly nowMs: () => number;
  /** Where this origin keeps records: told with every call, for those that keep theirs elsewhere are no cluster of ours. */
  readonly records?: string;
}

/** The origins of the cluster as this one sees them: placement, health, signed calls. */
export class Members {
  readonly selfId: string;
  readonly #deps: MembersDeps;
  /** One small question to a member at a time, however many wait for it. */
  readonly #asking = new SingleFlight<string, void>();
  #news: Promise<unknown> = Promise.resolve();
  readonly #returnListeners: Set<(id: string) => void>;
  readonly #isAlone: boolean;

  constructor(deps: MembersDeps, alone?: { readonly listeners: Set<(id: string) => void> }) {
    this.#deps = deps;
    this.selfId = deps.selfId;
    this.#isAlone = alone !== undefined;
    this.#returnListeners = alone?.listeners ?? new Set();
  }

  /** The same origins for what this one decides alone: it is the owner of every shard, in every epoch. */
  alone(): Members {
    return new Members(this.#deps, { listeners: this.#returnListeners });
  }

  /** Every origin that decides; in a ring change the old and the new ones. */
  get ids(): string[] {
    return this.#isAlone ? [this.selfId] : this.#deps.cluster.owningIds;
  }

  /** Resolves when a newer membership that some answer told of is followed, or cannot be got. */
  async news(): Promise<void> {
    await this.#news;
  }

  /** Answers tell of a newer membership: `getting` ends when it is here. */
  awaits(getting: Promise<void>): void {
    this.#news = Promise.all([this.#news, getting]).then(ignoreFailure, ignoreFailure);
  }

  /** Of the ring's membership; 0 where it decides nothing. */
  get epoch(): number {
    return this.#isAlone ? 0 : this.#deps.cluster.epoch;
  }

  /** Owners and stand-ins of a digest or shard key. */
  placement(key: string): Ownership {
    return this.#deps.cluster.origins(key);
  }

  /** Who decides about a digest or shard key. */
  shard(key: string): Shard {
    if (this.#isAlone) return { epoch: 0, sets: [[this.selfId]] };
    return this.#deps.cluster.shard(key);
  }

  /** Owners, then stand-ins: all that could hold an acknowledged copy. */
  candidates(key: string): string[] {
    return candidatesOf(this.placement(key));
  }

  /** Owners and stand-ins in the order to try them: who answered of late first. */
  tries(key: string): string[] {
    return this.#deps.health.tries(this.placement(key));
  }

  /** Ids in the order to try them. */
  order(ids: readonly string[]): string[] {
    return this.#deps.health.order(ids);
  }

  /** Calls `listener` when an origin answers that did not before. */
  onReturn(listener: (id: string) => void): void {
    this.#returnListeners.add(listener);
  }

  isSuspect(id: string): boolean {
    return this.#deps.health.isSuspect(id);
  }

  /** True for one that has failed for so long that patience would be in vain. */
  isGone(id: string): boolean {
    return this.#deps.health.isGone(id);
  }

  /** The first owner that is not suspected. */
  leaderOf(key: string): string {
    return this.#deps.health.leader(this.placement(key));
  }

  find(id: string): Member | undefined {
    const member = this.#deps.cluster.findMember(id);
    return member?.role === 'origin' ? member : undefined;
  }

  /**
   * Sends one call and remembers whether the member answered. Any answer counts, also an error status.
   * @throws {CodedError} `PEER_HTTP` if none came
   */
  async raw(id: string, call: MemberCall): Promise<InternalResponse> {
    return await this.#watch(id, call, async (request) => await this.#deps.client.raw(request));
  }

  /** As {@link raw}, error statuses are thrown as the code that the member named. */
  async call(id: string, call: MemberCall): Promise<InternalResponse> {
    return await this.#watch(id, call, async (request) => await this.#deps.client.call(request));
  }

  async bytes(
    id: string,
    call: MemberCall,
    limitBytes?: number,
  ): Promise<{ headers: InternalResponse['headers']; status: number; bytes: Buffer }> {
    return await this.#watch(id, call, async (request) => await this.#deps.client.bytes(request, limitBytes));
  }

  async json<T>(id: string, call: MemberCall & { readonly json?: unknown }): Promise<T> {
    return await this.#watch(
      id,
      call,
      async (request) => await this.#deps.client.json<T>({ ...request, json: call.json }),
    );
  }

  /** As {@link json}, with what the member's answer counts by. An empty answer is undefined. */
  async counted<T>(
    id: string,
    call: MemberCall & { readonly json?: unknown },
  ): Promise<{ readonly sender: Sender; readonly answer: T }> {
    const { json, ...rest } = call;
    const body = json === undefined ? {} : { body: JSON.stringify(json) };
    const headers =
      json === undefined ? call.headers : { ...call.headers, 'content-type': 'application/json' };
    const found = await this.bytes(id, { ...rest, ...body, ...(headers === undefined ? {} : { headers }) });
    const text = found.bytes.toString('utf8');
    return {
      sender: senderOf(id, found.headers[H_STANDING]),
      answer: (text === '' ? undefined : JSON.parse(text)) as T,
    };
  }

  /**
   * Runs a call that may take long; gives it up with `PEER_HTTP` when the member leaves so many small questions in a row
   * without an answer meanwhile: with {@link MISSES} a hung one costs about two seconds, and a busy one nothing.
   */
  async attended<T>(
    id: string,
    run: (signal: AbortSignal) => Promise<T>,
    signal?: AbortSignal,
    misses = MISSES,
  ): Promise<T> {
    const gone = new AbortController();
    const done = new AbortController();
    const ask = async (): Promise<void> =>
      await this.#asking.run(id, async (running) => await this.#ask(id, running), done.signal);
    const attend = async (): Promise<void> => {
      for (let missed = 0; ; ) {
        await delay(ATTEND_EVERY_MS, done.signal);
        try {
          await ask();
          missed = 0;
        } catch (error) {
          throwIfBug(error);
          missed += 1;
          if (missed >= misses || done.signal.aborted) throw error;
        }
      }
    };
    attend().catch((error: unknown) => {
      if (!done.signal.aborted) gone.abort(error);
    });
    try {
      return await run(signal === undefined ? gone.signal : AbortSignal.any([gone.signal, signal]));
    } finally {
      done.abort(OVER);
    }
  }

  async #ask(id: string, signal: AbortSignal): Promise<void> {
    const { client, prober = client } = this.#deps;
    const call = { ...headTo(ORIGIN_RECORDS.cluster), headers: FILLED, signal };
    const answer = await this.#watch(id, call, async (request) => await prober.raw(request));
    await answer.body.dump();
  }

  /** Notes a failure of another member; this one never passes itself over. */
  #failed(id: string): void {
    if (id !== this.selfId) this.#deps.health.failed(id);
  }

  #answered(id: string): void {
    if (!this.#deps.health.answered(id)) return;
    for (const listener of this.#returnListeners) listener(id);
  }

  async #watch<T>(id: string, call: MemberCall, send: (request: InternalRequest) => Promise<T>): Promise<T> {
    const { nowMs } = this.#deps;
    const member = this.find(id);
    if (member === undefined)
      throw new CodedError('PEER_HTTP', {
        message: `no origin ${id} in the cluster document`,
        detail: { id },
      });
    const startedMs = nowMs();
    const { epoch, silentMs = call.headersTimeoutMs === undefined ? SILENT_MS : undefined, ...rest } = call;
    const headers = {
      ...call.headers,
      [H_RECORDS]: this.#deps.records ?? 'embedded',
      ...(epoch === undefined ? {} : { [H_EPOCH]: String(epoch) }),
    };
    const url = member.urls[0]!;
    const waits = { headersTimeoutMs: QUICK_MS, bodyTimeoutMs: PATIENT_MS };
    try {
      const answer = await send({ ...waits, ...rest, headers, url, to: id });
      this.#answered(id);
      return answer;
    } catch (error) {
      throwIfBug(error);
      if (call.signal?.aborted === true) {
        if (silentMs !== undefined && nowMs() - startedMs >= silentMs) this.#failed(id);
        throw error;
      }
      // Who refuses our signature (a clock is off) is as good as dead to us.
      if (!isCoded(error) || isSilence(error)) this.#failed(id);
      else if (!isOutOfFiles(error)) this.#answered(id);
      throw error;
    }
  }
}
