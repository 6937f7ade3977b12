import type { Logger } from '@sepia/base/log';
import type { Cluster } from '@sepia/cluster/cluster';
import { proxyEnvironment } from '@sepia/upstream/core/proxy-choice';
import { UpstreamClient } from '@sepia/upstream/upstream-client';

interface UpstreamClientsDeps {
  readonly cluster: Cluster;
  readonly log: Logger;
  readonly nowMs: () => number;
  /** The environment of the process: HTTP proxies. */
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** Clients for the upstreams, made when first needed: an agent only talks to them when the cluster is silent. */
export class UpstreamClients {
  readonly #deps: UpstreamClientsDeps;
  readonly #clients = new Map<string, UpstreamClient>();

  constructor(deps: UpstreamClientsDeps) {
    this.#deps = deps;
  }

  /** @throws {CodedError} `UPSTREAM_UNKNOWN`, `CONFIG_INVALID` */
  of(name: string): UpstreamClient {
    let client = this.#clients.get(name);
    if (client === undefined) {
      const { cluster, log, nowMs, env } = this.#deps;
      const upstream = cluster.upstream(name);
      client = new UpstreamClient({ upstream, log, nowMs, proxies: proxyEnvironment(env) });
      this.#clients.set(name, client);
    }
    return client;
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#clients.values()].map((client) => client.close()));
  }
}
