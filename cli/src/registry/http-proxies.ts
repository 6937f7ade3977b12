import { CodedError } from '@sepia/base/errors';
import { createDispatcher, type Dispatcher, type ProxyAddress } from '@sepia/http/sockets';
import { proxyAddressOf } from '@sepia/upstream/client-setup';
import {
  type ProxyEnvironment,
  parseProxy,
  proxyEnvironment,
  proxyFor,
} from '@sepia/upstream/core/proxy-choice';

/** The HTTP proxies that the environment names for registries, for their token services and for where they lead. */
export class HttpProxies {
  readonly #named: ProxyEnvironment;
  readonly #member: string | undefined;
  readonly #sockets = new Map<string, Dispatcher>();

  /** @param member URL of a member of the cluster: those are reached straight, by all who call them */
  constructor(env: Readonly<Record<string, string | undefined>>, member?: string) {
    this.#named = proxyEnvironment(env);
    this.#member = member === undefined ? undefined : new URL(member).origin;
  }

  /** The proxy for a URL; undefined for none. @throws {CodedError} `CONFIG_INVALID` where the variable is no HTTP proxy */
  addressFor(url: URL): ProxyAddress | undefined {
    const found = url.origin === this.#member ? undefined : proxyFor(url, this.#named);
    if (found === undefined) return undefined;
    const proxy = parseProxy(found);
    if (proxy !== undefined) return proxyAddressOf(proxy);
    throw new CodedError('CONFIG_INVALID', {
      message: `${url.protocol === 'https:' ? 'HTTPS' : 'HTTP'}_PROXY is no HTTP proxy (http://host:port); name ${url.hostname} in NO_PROXY to do without`,
    });
  }

  /** Sockets through the proxy for a URL; undefined for none. @throws as {@link addressFor} */
  socketsFor(url: URL): Dispatcher | undefined {
    const proxy = this.addressFor(url);
    if (proxy === undefined) return undefined;
    // Of one proxy there may be two accounts, by the scheme of what is reached.
    const key = JSON.stringify([proxy.url, proxy.authorization]);
    const sockets = this.#sockets.get(key) ?? createDispatcher({ proxy });
    this.#sockets.set(key, sockets);
    return sockets;
  }

  /** Cuts all connections. */
  async destroy(): Promise<void> {
    await Promise.all([...this.#sockets.values()].map(async (sockets) => await sockets.destroy()));
  }
}
