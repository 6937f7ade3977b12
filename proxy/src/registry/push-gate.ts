import { CodedError } from '@sepia/base/errors';
import { withinMemory } from '@sepia/base/memory/process-memory';
import { hostOf } from '@sepia/base/names/host-of';
import type { ResolvedName } from '@sepia/base/names/upstream-name';
import { steadyMs } from '@sepia/base/reach';
import type { Cluster } from '@sepia/cluster/cluster';
import { takesPushes } from '@sepia/cluster/write-back';
import { addressOf } from '@sepia/face/door/client-facts';
import type { RequestState } from '@sepia/http/app';
import { IDLE_PROGRESS_MS } from '@sepia/http/deadlines/sockets';
import type { Context } from 'koa';
import { drainRequest } from '../bodies/request-body.ts';
import { PUSH_LOOK_MS, WINDOW_MS } from '../deadlines.ts';
import { type Place, type PlaceLimits, type Pusher, PushPlaces, SLOW_BYTES } from './core/push-places.ts';

/** Bodies of manifests that are in memory at once: 32 of the largest, fewer where memory is short. */
const HELD_BYTES = 128 * 1024 * 1024;

interface Running {
  readonly ctx: Context;
  /** Bytes of its connection before this request. */
  readonly beganBytes: number;
  readonly stop: AbortController;
}

/** What a request with a body runs with. */
export interface PushTurn {
  /** Aborts when the place goes to somebody else. */
  readonly signal: AbortSignal;
  /** Holds so many bytes of the body in memory, instead of what it held. @throws `OVERLOADED` */
  readonly hold: (bytes: number) => void;
}

/** Admits pushes: to upstreams that take them, and only as many bodies at once as the limits allow. */
export class PushGate {
  readonly #cluster: Cluster;
  #limits: PlaceLimits;
  readonly #places: PushPlaces;
  readonly #running = new Map<Place, Running>();
  #looks: NodeJS.Timeout | undefined;

  constructor(deps: { readonly cluster: Cluster }, limits: PlaceLimits) {
    this.#cluster = deps.cluster;
    this.#limits = limits;
    this.#places = new PushPlaces(limits);
  }

  get open(): number {
    return this.#places.open;
  }

  /** New limits, for what comes from now on. */
  adjust(limits: PlaceLimits): void {
    this.#limits = limits;
    this.#places.adjust(limits);
  }

  /** @throws {CodedError} `UPSTREAM_READ_ONLY` that names the mode */
  checkMode(target: ResolvedName): void {
    const { mode, name } = this.#cluster.upstream(target.upstream);
    if (takesPushes(mode)) return;
    throw new CodedError('UPSTREAM_READ_ONLY', {
      message: `upstream ${name} is of mode ${mode} and takes no pushes; use one of mode none or write-back`,
      detail: { upstream: name, mode },
    });
  }

  /**
   * Runs a request that carries a body. The connection may rest meanwhile (our own watch sees to it), and a body that
   * was refused is read on for a while, so that the client sees why.
   * @throws {CodedError} `OVERLOADED`
   */
  async run<T>(ctx: Context, work: (turn: PushTurn) => Promise<T>): Promise<T> {
    try {
      return await this.#run(ctx, work);
    } catch (error) {
      ctx.res.once('finish', () => drainRequest(ctx.req));
      throw error;
    }
  }

  async #run<T>(ctx: Context, work: (turn: PushTurn) => Promise<T>): Promise<T> {
    const place = this.#enter(ctx);
    const { stop } = this.#running.get(place)!;
    const { socket } = ctx.req;
    socket.setTimeout(0);
    try {
      return await work({ signal: stop.signal, hold: (bytes) => this.#hold(place, bytes) });
    } catch (error) {
      throw stop.signal.aborted ? stop.signal.reason : error;
    } finally {
      this.#places.leave(place);
      this.#running.delete(place);
      if (this.#running.size === 0) {
        clearInterval(this.#looks);
        this.#looks = undefined;
      }
      socket.setTimeout(IDLE_PROGRESS_MS * 2);
    }
  }

  #enter(ctx: Context): Place {
    const entry = this.#places.enter(pusherOf(ctx), steadyMs());
    if (entry.type === 'refuse') throw this.#refusal(entry.limit);
    for (const one of entry.instead) this.#running.get(one)?.stop.abort(slowBody());
    this.#running.set(entry.place, {
      ctx,
      beganBytes: ctx.req.socket.bytesRead,
      stop: new AbortController(),
    });
    this.#looks ??= setInterval(() => this.#look(), PUSH_LOOK_MS).unref();
    return entry.place;
  }

  #look(): void {
    for (const [place, { ctx, beganBytes }] of this.#running) {
      const waits = !ctx.req.complete && !ctx.req.isPaused();
      this.#places.moved(place, ctx.req.socket.bytesRead - beganBytes, waits, steadyMs());
    }
  }

  #hold(place: Place, bytes: number): void {
    if (this.#places.hold(place, bytes)) return;
    throw new CodedError('OVERLOADED', {
      message: 'too many manifests are being sent; try again later',
      detail: { maxBytes: this.#limits.heldBytes, retryAfterSeconds: 1 },
    });
  }

  #refusal(limit: 'account' | 'address' | 'all'): CodedError {
    const { all, perAccount, perAddress } = this.#limits;
    const maxOpen = { account: perAccount, address: perAddress, all }[limit];
    const whose = { account: ' of this account', address: ' of this address', all: '' }[limit];
    return new CodedError('OVERLOADED', {
      message: `${maxOpen} requests with a body${whose} are open, as many as may be; try again later`,
      detail: { maxOpen, limit, retryAfterSeconds: 1 },
    });
  }
}

/** Limits as the config says them. */
export function placeLimits(limits: {
  readonly 'open-uploads': number;
  readonly 'uploads-per-account': number;
  readonly 'uploads-per-address': number;
}): PlaceLimits {
  return {
    all: limits['open-uploads'],
    perAccount: limits['uploads-per-account'],
    perAddress: limits['uploads-per-address'],
    heldBytes: withinMemory(HELD_BYTES),
  };
}

/** Who sends a request, as the limits count it. */
export function pusherOf(ctx: Context): Pusher {
  const { account } = ctx.state as RequestState & { account?: string };
  return { account, address: hostOf(addressOf(ctx)) };
}

function slowBody(): CodedError {
  return new CodedError('OVERLOADED', {
    message: `the body came at less than ${SLOW_BYTES / WINDOW_MS} KB a second while others waited for a place`,
    detail: { retryAfterSeconds: 5 },
  });
}
