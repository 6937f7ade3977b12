import { randomBytes } from 'node:crypto';
import { askAll } from '@sepia/base/async/ask-many';
import { afterOwnMs } from '@sepia/base/async/own-wait';
import { SingleFlight } from '@sepia/base/async/single-flight';
import { CodedError, isCoded, takesNoWrites } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import { isOutOfFiles } from '@sepia/base/system/open-files';
import { ORIGIN_BLOBS, ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import type { Cluster } from '@sepia/cluster/cluster';
import { isSilence } from '@sepia/cluster/core/answers';
import type { Health } from '@sepia/cluster/core/health';
import { candidatesOf, type Shard } from '@sepia/cluster/ring';
import { FILLED } from '@sepia/http/app';
import type { InternalClient, InternalRequest, InternalResponse } from '@sepia/http/client';
import { HEARD_MS, PROBE_EVERY_MS, PROBE_MS, QUIET_MS, QUIET_PROBE_EVERY_MS } from '../deadlines.ts';
import { quorumLack } from './core/quorum-lack.ts';

const MAX_QUICK_BYTES = 4 * 1024 * 1024;
const FOR_EVER = new AbortController().signal;

/** A call whose address is an origin. */
export type OriginRequest = Omit<InternalRequest, 'url' | 'to'>;

interface OriginsDeps {
  readonly cluster: Cluster;
  readonly client: InternalClient;
  /** Sockets of its own: who asks whether an origin lives never queues behind bodies. */
  readonly prober?: InternalClient;
  readonly health: Health;
}

/** Calls to origins, noting who answers. */
export class Origins {
  readonly #deps: OriginsDeps;
  /** One probe of an origin at a time, however many wait for it. */
  readonly #probing = new SingleFlight<string, boolean>();
  /** Calls under way, but for probes. */
  #calls = 0;
  #calledAtMs = performance.now();
  /** Ends a rest between probes that is long because nothing happens. */
  #rest: AbortController | undefined;

  constructor(deps: OriginsDeps) {
    this.#deps = deps;
  }

  get ids(): string[] {
    return this.#deps.cluster.members('origin').map((member) => member.id);
  }

  get health(): Health {
    return this.#deps.health;
  }

  has(id: string): boolean {
    return this.#deps.cluster.findMember(id)?.role === 'origin';
  }

  /** Owners and stand-ins of a digest or shard key, in ring order. */
  placement(key: string): { owners: readonly string[]; candidates: readonly string[]; writeQuorum: number } {
    const placement = this.#deps.cluster.origins(key);
    const { owners, writeQuorum } = placement;
    return { owners, candidates: candidatesOf(placement), writeQuorum };
  }

  /** Owners and stand-ins of a digest or shard key in the order to try them: who answered of late first. */
  tries(key: string): string[] {
    return this.#deps.health.tries(this.#deps.cluster.origins(key));
  }

  /** The origins that decide about a register. */
  shard(key: string): Shard {
    return this.#deps.cluster.shard(key);
  }

  /** True if the origin answered anything within the last `ms`. */
  alive(id: string, ms: number): boolean {
    return this.#deps.health.aliveWithin(id, ms);
  }

  /** Why an origin refused our signature last. */
  refusedBy: string | undefined;

  /** Undefined while a majority answers, else why not, and why one refuses us. */
  lack(): string | undefined {
    const why = quorumLack(this.ids, this.health);
    return why === undefined || this.refusedBy === undefined ? why : `${why} (${this.refusedBy})`;
  }

  /** One call to one origin; an error status is thrown as the error that the origin named. */
  async call(id: string, call: OriginRequest): Promise<InternalResponse> {
    const { client } = this.#deps;
    return await this.#watch(id, call, client, async (request) => await client.call(request));
  }

  /** As {@link call}, with the whole body of the answer, of at most so many bytes. */
  async bytes(
    id: string,
    call: OriginRequest,
    limitBytes: number,
    client = this.#deps.client,
  ): Promise<Awaited<ReturnType<InternalClient['bytes']>>> {
    return await this.#watch(id, call, client, async (request) => await client.bytes(request, limitBytes));
  }

  async #watch<T>(
    id: string,
    call: OriginRequest,
    client: InternalClient,
    send: (request: InternalRequest) => Promise<T>,
  ): Promise<T> {
    const { urls } = this.#deps.cluster.member(id);
    const over = client === this.#deps.prober ? undefined : this.#begun();
    try {
      const answer = await send({ ...call, url: urls[0]!, to: id });
      this.health.answered(id);
      return answer;
    } catch (error) {
      if (isCoded(error, 'SIGNATURE_INVALID')) this.refusedBy = `${id}: ${error.message}`;
      if (isSilence(error)) this.health.failed(id);
      else if (isCoded(error) && call.signal?.aborted !== true && !isOutOfFiles(error))
        this.health.answered(id);
      throw error;
    } finally {
      over?.();
    }
  }

  /** Somebody has work for origins, until what this returns is called. */
  #begun(): () => void {
    this.#calls += 1;
    this.#calledAtMs = performance.now();
    this.#rest?.abort();
    return () => {
      this.#calls -= 1;
      this.#calledAtMs = performance.now();
    };
  }

  /** A call whose whole answer must be there within `timeoutMs`, else the origin counts as failed. */
  async quick<T>(
    id: string,
    timeoutMs: number,
    call: Pick<OriginRequest, 'method' | 'path' | 'headers'>,
    signal?: AbortSignal,
    client?: InternalClient,
  ): Promise<T> {
    const late = new AbortController();
    const giveUp = (): void => {
      this.health.failed(id);
      late.abort(new CodedError('PEER_HTTP', { message: `origin ${id} is silent`, detail: { origin: id } }));
    };
    const answered = afterOwnMs(timeoutMs, giveUp);
    const either = signal === undefined ? late.signal : AbortSignal.any([late.signal, signal]);
    try {
      const waits = { headersTimeoutMs: timeoutMs * 2, bodyTimeoutMs: timeoutMs * 2, signal: either };
      const { bytes } = await this.bytes(id, { ...call, ...waits }, MAX_QUICK_BYTES, client);
      return (bytes.length === 0 ? {} : JSON.parse(bytes.toString('utf8'))) as T;
    } catch (cause) {
      if (cause instanceof SyntaxError)
        throw new CodedError('PEER_HTTP', {
          message: `origin ${id} answered with bad JSON`,
          detail: { status: 200 },
          cause,
        });
      throw cause;
    } finally {
      answered();
    }
  }

  /** Asks one origin whether it lives: any answer counts. Who asks at the same time shares the answer. @throws the reason of `signal` */
  async probe(id: string, signal: AbortSignal = FOR_EVER, timeoutMs = PROBE_MS): Promise<boolean> {
    const ask = async (abort: AbortSignal): Promise<boolean> => {
      try {
        const call = { ...to(ORIGIN_RECORDS.cluster), headers: FILLED };
        await this.quick(id, timeoutMs, call, abort, this.#deps.prober);
        return true;
      } catch (error) {
        throwIfBug(error);
        return isCoded(error) && !isSilence(error);
      }
    };
    return await this.#probing.run(`${id} ${timeoutMs}`, ask, signal);
  }

  /**
   * Asks one origin whether it lives and has room for a blob, and a place for one more push of a client.
   * @throws `DISK_FULL`, `OVERLOADED`, `PEER_HTTP` when it is silent
   */
  async askRoom(
    id: string,
    wanted: { readonly bytes: number; readonly client: string },
    signal: AbortSignal,
  ): Promise<void> {
    try {
      await this.quick(id, PROBE_MS, to(ORIGIN_BLOBS.room, wanted), signal);
    } catch (error) {
      if (takesNoWrites(error) || isCoded(error, 'OVERLOADED') || isSilence(error) || !isCoded(error))
        throw error;
      // It lives, but is of a version that cannot tell.
    }
  }

  /**
   * Probes, until the signal aborts, every origin that is suspect or that no call heard of lately: each second; while nobody
   * has work for origins and none is suspect every few, and at once when somebody has.
   */
  async watch(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const unheard = this.health.unheard(this.ids, HEARD_MS);
      const round = askAll(unheard, async (id) => await this.probe(id, signal));
      await Promise.all([round, pause(PROBE_EVERY_MS, signal)]);
      if (!this.#isQuiet) continue;
      this.#rest = new AbortController();
      await pause(QUIET_PROBE_EVERY_MS - PROBE_EVERY_MS, AbortSignal.any([signal, this.#rest.signal]));
      this.#rest = undefined;
    }
  }

  get #isQuiet(): boolean {
    const isUnused = this.#calls === 0 && performance.now() - this.#calledAtMs >= QUIET_MS;
    return isUnused && this.health.suspects.length === 0;
  }
}

/** An id for a change of a tag that several origins may be given, one after the other. */
export function newChange(): string {
  return randomBytes(12).toString('hex');
}

/** A header of an answer, the first if it came twice. */
export function headerOf(answer: Pick<InternalResponse, 'headers'>, name: string): string | undefined {
  const value = answer.headers[name];
  return Array.isArray(value) ? value[0] : value;
}
