import { firstAnswer } from '@sepia/base/async/ask-many';
import type { Cluster } from '@sepia/cluster/cluster';
import { isDecisive } from '@sepia/cluster/core/answers';
import type { InternalClient, InternalRequest } from '@sepia/http/client';
import { PROXY_HEDGE_MS } from '../deadlines.ts';
import { type CallWatch, proxiesOf, type Target } from './members.ts';

type Call = Pick<InternalRequest, 'method' | 'path' | 'headersTimeoutMs'> & { readonly json?: unknown };

/** JSON calls to the proxy of this node, or the next that answers. */
export class ProxyClient {
  readonly #deps: {
    readonly cluster: Cluster;
    readonly client: InternalClient;
    readonly health: CallWatch;
    readonly nodeId: string;
  };

  constructor(deps: {
    readonly cluster: Cluster;
    readonly client: InternalClient;
    readonly health: CallWatch;
    readonly nodeId: string;
  }) {
    this.#deps = deps;
  }

  /** @throws what a proxy named, `NO_PEERS`, `PEER_HTTP` */
  async json<T>(call: Call, signal: AbortSignal): Promise<T> {
    const { cluster, client, health, nodeId } = this.#deps;
    const proxies = proxiesOf(cluster, health, nodeId);
    const ask = (proxy: Target, abort: AbortSignal): Promise<T> =>
      health.watch(proxy, PROXY_HEDGE_MS * 3, () =>
        client.json<T>({ ...call, url: proxy.url, to: proxy.id, signal: abort }),
      );
    const first = async (running: AbortSignal): Promise<T> =>
      await firstAnswer(proxies, ask, { hedgeAfterMs: PROXY_HEDGE_MS, signal: running, isFinal: isDecisive });
    return await health.attend(proxies, first, signal);
  }
}
