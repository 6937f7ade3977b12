import { askInTurn } from '@sepia/base/async/ask-many';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { H_UPSTREAM } from '@sepia/cluster/api/headers';
import type { Cluster } from '@sepia/cluster/cluster';
import type { InternalClient, InternalRequest, InternalResponse } from '@sepia/http/client';

type Call = Omit<InternalRequest, 'url' | 'to'>;
type Address = Pick<InternalRequest, 'url' | 'to'>;

interface ProxiesDeps {
  readonly cluster: Cluster;
  readonly client: InternalClient;
}

/** Signed calls to the proxies of the cluster: the first that answers, beginning with the last that did. */
export class Proxies {
  readonly #deps: ProxiesDeps;
  #first = 0;

  constructor(deps: ProxiesDeps) {
    this.#deps = deps;
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
    const proxies = this.#deps.cluster.members('proxy');
    const order = [...proxies.slice(this.#first), ...proxies.slice(0, this.#first)];
    // Silence, or one that is stopping: another proxy may know better.
    const isFinal = (error: unknown): boolean => !isCoded(error, 'PEER_HTTP') && !isCoded(error, 'DRAINING');
    try {
      return await askInTurn(
        order,
        async (proxy) => {
          const answer = await ask({ to: proxy.id, url: proxy.urls[0]! });
          this.#first = proxies.indexOf(proxy);
          return answer;
        },
        { isFinal },
      );
    } catch (error) {
      throwIfBug(error);
      if (proxies.length > 0 && isFinal(error)) throw error;
      throw new CodedError('NO_PEERS', { message: 'no proxy of the cluster answers', cause: error });
    }
  }
}

/** Header that names the upstream of a registry call of a member. */
export function upstreamHeader(upstream: string): Record<string, string> {
  return { [H_UPSTREAM]: upstream };
}
