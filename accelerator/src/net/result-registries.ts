import { CodedError } from '@sepia/base/errors';
import type { Logger } from '@sepia/base/log';
import type { Cluster } from '@sepia/cluster/cluster';
import { openTargetClient } from '@sepia/upstream/client-setup';
import type { CredentialConfig } from '@sepia/upstream/credentials/open';
import type { TargetClient } from '@sepia/upstream/target-client';
import { Places } from './registry-target.ts';

/** The registry that results of one upstream are written to. */
export interface ResultRegistry {
  readonly client: TargetClient;
  readonly places: Places;
  /** Host by which the images are known. */
  readonly host: string;
}

interface Deps {
  readonly cluster: Cluster;
  readonly credentials: Readonly<Record<string, CredentialConfig>>;
  /** The environment of the process: HTTP proxies. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly dateMs: () => number;
}

const CONNECTIONS = 8;

/** Registries of the upstreams that rules name: the upstream itself, or a proxy where Sepia is the source of truth. */
export class ResultRegistries {
  readonly #registries: ReadonlyMap<string, ResultRegistry>;

  /** @throws {CodedError} `CONFIG_INVALID` that names the key */
  constructor(deps: Deps) {
    const { cluster, credentials } = deps;
    for (const name of Object.keys(credentials))
      if (!cluster.upstreams.some((one) => one.name === name))
        throw new CodedError('CONFIG_INVALID', {
          message: `credentials.${name}: is no upstream of the cluster document`,
        });
    const names = new Set(cluster.document.conversions.map((rule) => rule.from));
    this.#registries = new Map([...names].map((name) => [name, open(deps, name)]));
  }

  of(upstream: string): ResultRegistry {
    const found = this.#registries.get(upstream);
    if (found === undefined) throw new CodedError('UPSTREAM_UNKNOWN', { detail: { upstream } });
    return found;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#registries.values()].map((one) => one.client.close()));
  }
}

function open(deps: Deps, name: string): ResultRegistry {
  const { cluster, credentials } = deps;
  const upstream = cluster.upstream(name);
  const url = upstream.url ?? cluster.members('proxy')[0]?.urls[0];
  if (url === undefined)
    throw new CodedError('CONFIG_INVALID', {
      message: `upstream ${name} has no url, and there is no proxy to write to`,
    });
  const client = openTargetClient(deps, {
    name,
    to: { ...upstream, url },
    caKey: `upstreams.${name}.ca`,
    account: { name, config: credentials[name] },
    connections: CONNECTIONS,
  });
  return { client, places: new Places(), host: client.host };
}
