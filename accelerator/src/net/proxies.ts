import { askInTurn } from '@sepia/base/async/ask-many';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { H_UPSTREAM } from '@sepia/cluster/api/headers';
import type { Cluster } from '@sepia/cluster/cluster';
import type { InternalClient, InternalRequest, InternalResponse } from '@sepia/http/client';

type Call = Omit<InternalRequest, 'url' | 'to'>;
type Address = Pick<InternalRequest, 'url' | 'to'>;

/** Asks the proxies one after another, beginning with the last that answered. */
export class ProxyTurns {
  readonly #cluster: Cluster;
  #first = 0;

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  /** @throws {CodedError} what a proxy threw that no other can better, else what the last one did; `NO_PEERS` without proxies */
  async ask<T>(ask: (at: Address) => Promise<T>, isFinal: (error: unknown) => boolean): Promise<T> {
    const proxies = this.#cluster.members('proxy');
    const order = [...proxies.slice(this.#first), ...proxies.slice(0, this.#first)];
    return await askInTurn(
      order,
      async (proxy) => {
        const answer = await ask({ to: proxy.id, url: proxy.urls[0]! });
        this.#first = proxies.indexOf(proxy);
        return answer;
      },
      { isFinal },
    );
  }
}

interface ProxiesDeps {
  readonly cluster: Cluster;
  readonly client: InternalClient;
}

/** Signed calls to the proxies of the cluster: the first that answers, beginning with the last that did. */
export class Proxies {
  readonly #deps: ProxiesDeps;
  readonly #turns: ProxyTurns;

  constructor(deps: ProxiesDeps) {
    this.#deps = deps;
    this.#turns = new ProxyTurns(deps.cluster);
  }

  /** An answer below 400. @throws {CodedError} what a proxy named, `NO_PEERS` if none answers */
  async call(call: Call): Promise<InternalResponse> {
    return await this.#each(async (at) => await this.#deps.client.call({ ...call, ...at }));
  }

  /** JSON both ways. @throws as {@link call} */
  async json<T>(call: Omit<Call, 'body'> & { readonly json?: unknown }): Promise<T> {
    return await this.#each(async (at) => await this.#deps.client.json<T>({ ...call, ...at }));
  }

  /** A whole small answer. @throws as {@link call} */
  async bytes(
    call: Call,
    limitBytes: number,
  ): Promise<{ readonly bytes: Buffer; readonly headers: InternalResponse['headers'] }> {
    return await this.#each(async (at) => await this.#deps.client.bytes({ ...call, ...at }, limitBytes));
  }

  async #each<T>(ask: (at: Address) => Promise<T>): Promise<T> {
    // Silence, or one that is stopping: another proxy may know better.
    const isFinal = (error: unknown): boolean => !isCoded(error, 'PEER_HTTP') && !isCoded(error, 'DRAINING');
    try {
      return await this.#turns.ask(ask, isFinal);
    } catch (error) {
      throwIfBug(error);
      const isThere = this.#deps.cluster.members('proxy').length > 0;
      if (isThere && isFinal(error)) throw error;
      throw new CodedError('NO_PEERS', { message: 'no proxy of the cluster answers', cause: error });
    }
  }
}

/** Header that names the upstream of a registry call of a member. */
export function upstreamHeader(upstream: string): Record<string, string> {
  return { [H_UPSTREAM]: upstream };
}
