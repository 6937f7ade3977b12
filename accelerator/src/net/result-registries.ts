import { CodedError, isCoded } from '@sepia/base/errors';
import type { Logger } from '@sepia/base/log';
import type { Cluster } from '@sepia/cluster/cluster';
import type { MemberDialling } from '@sepia/http/sockets';
import { DIRECT, openTargetClient } from '@sepia/upstream/client-setup';
import type { CredentialConfig } from '@sepia/upstream/credentials/open';
import type { TargetClient } from '@sepia/upstream/target-client';
import { ProxyTurns } from './proxies.ts';
import { Places } from './registry-target.ts';

/** The registry that results of one upstream are written to. */
export interface ResultRegistry {
  /** Works with the registry; of proxies with the next one where one is away, from the beginning. */
  readonly use: <T>(work: (client: TargetClient) => Promise<T>) => Promise<T>;
  readonly places: Places;
  /** Host by which the images are known. */
  readonly host: string;
  readonly close: () => Promise<void>;
}

interface Deps {
  readonly cluster: Cluster;
  readonly credentials: Readonly<Record<string, CredentialConfig>>;
  /** The environment of the process: HTTP proxies. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly dateMs: () => number;
  /** How members are dialled. */
  readonly member: MemberDialling;
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
    await Promise.all([...this.#registries.values()].map((one) => one.close()));
  }
}

function open(deps: Deps, name: string): ResultRegistry {
  const { url } = deps.cluster.upstream(name);
  if (url === undefined) return openProxies(deps, name);
  const client = openAt(deps, name, url);
  return {
    use: async (work) => await work(client),
    places: new Places(),
    host: client.host,
    close: async () => await client.close(),
  };
}

/** Sepia is the source of truth: each request says which of the upstreams is meant, for a proxy serves them all. */
function openProxies(deps: Deps, name: string): ResultRegistry {
  const first = deps.cluster.members('proxy')[0]?.urls[0];
  if (first === undefined)
    throw new CodedError('CONFIG_INVALID', {
      message: `upstream ${name} has no url, and there is no proxy to write to`,
    });
  const clients = new Map<string, TargetClient>();
  const at = (url: string): TargetClient => {
    const client = clients.get(url) ?? openAt(deps, name, url, name);
    clients.set(url, client);
    return client;
  };
  const turns = new ProxyTurns(deps.cluster);
  const { host } = at(first);
  const isDefault = deps.cluster.upstreams[0]?.name === name;
  const prefix = deps.cluster.upstream(name).hosts.find((one) => one.includes('.') || one.includes(':'));
  return {
    use: async (work) =>
      await turns.ask(
        async ({ url }) => await work(at(url)),
        (error) => !isCoded(error, 'BACKEND_DOWN'),
      ),
    places: new Places(),
    host: isDefault ? host : `${host}/${prefix ?? name}`,
    close: async () => void (await Promise.all([...clients.values()].map((one) => one.close()))),
  };
}

function openAt(deps: Deps, name: string, url: string, ns?: string): TargetClient {
  return openTargetClient(deps, {
    name,
    // A member is reached straight, as by every other call: an HTTP proxy of the environment stands before registries.
    to: { ...deps.cluster.upstream(name), url, ...(ns === undefined ? {} : { proxy: DIRECT }) },
    caKey: `upstreams.${name}.ca`,
    account: { name, config: deps.credentials[name] },
    connections: CONNECTIONS,
    ...(ns === undefined ? {} : { ns, member: deps.member }),
  });
}
