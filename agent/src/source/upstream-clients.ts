import { readFileSync } from 'node:fs';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { Cluster } from '@sepia/cluster/cluster';
import { UpstreamClient } from '@sepia/upstream/upstream-client';

/** Clients for the upstreams, made when first needed: an agent only talks to them when the cluster is silent. */
export class UpstreamClients {
  readonly #deps: { readonly cluster: Cluster; readonly log: Logger; readonly nowMs: () => number };
  readonly #clients = new Map<string, UpstreamClient>();

  constructor(deps: { readonly cluster: Cluster; readonly log: Logger; readonly nowMs: () => number }) {
    this.#deps = deps;
  }

  /** @throws {CodedError} `UPSTREAM_UNKNOWN`, `CONFIG_INVALID` */
  of(name: string): UpstreamClient {
    let client = this.#clients.get(name);
    if (client === undefined) {
      const { cluster, log, nowMs } = this.#deps;
      const upstream = cluster.upstream(name);
      client = new UpstreamClient({
        upstream,
        log,
        nowMs,
        ...(upstream.ca === undefined ? {} : { ca: readCa(upstream.ca) }),
      });
      this.#clients.set(name, client);
    }
    return client;
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#clients.values()].map((client) => client.close()));
  }
}

function readCa(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('CONFIG_INVALID', { message: `upstreams.ca: ${file} cannot be read`, cause });
  }
}
