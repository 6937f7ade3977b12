import { CodedError } from '@sepia/base/errors';
import type { ResolvedName } from '@sepia/base/names/upstream-name';
import type { Cluster } from '@sepia/cluster/cluster';
import { IDLE_PROGRESS_MS } from '@sepia/http/sockets';
import type { Context } from 'koa';
import { drainRequest } from '../bodies/request-body.ts';

/** Who may push now: upstreams that take pushes, and no more requests with a body at once than the limit. */
export class PushGate {
  readonly #cluster: Cluster;
  readonly #maxOpen: number;
  #open = 0;

  constructor(deps: { readonly cluster: Cluster }, options: { readonly maxOpen: number }) {
    this.#cluster = deps.cluster;
    this.#maxOpen = options.maxOpen;
  }

  get open(): number {
    return this.#open;
  }

  /** @throws {CodedError} `UPSTREAM_READ_ONLY` that names the mode */
  checkMode(target: ResolvedName): void {
    const { mode, name } = this.#cluster.upstream(target.upstream);
    if (mode === 'none') return;
    throw new CodedError('UPSTREAM_READ_ONLY', {
      message: `upstream ${name} is of mode ${mode} and takes no pushes; use one of mode none`,
      detail: { upstream: name, mode },
    });
  }

  /**
   * Runs a request that carries an upload's bytes. The connection may rest meanwhile (our own watch sees to it),
   * and a body that was refused is read on for a while, so that the client sees why.
   * @throws {CodedError} `OVERLOADED`
   */
  async run(ctx: Context, work: () => Promise<void>): Promise<void> {
    if (this.#open >= this.#maxOpen)
      throw new CodedError('OVERLOADED', { detail: { maxOpen: this.#maxOpen, retryAfterSeconds: 1 } });
    const { socket } = ctx.req;
    this.#open += 1;
    socket.setTimeout(0);
    try {
      await work();
    } catch (error) {
      ctx.res.once('finish', () => drainRequest(ctx.req));
      throw error;
    } finally {
      this.#open -= 1;
      socket.setTimeout(IDLE_PROGRESS_MS * 2);
    }
  }
}
