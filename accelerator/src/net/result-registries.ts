import { readFileSync } from 'node:fs';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { Cluster } from '@sepia/cluster/cluster';
import { TargetClient } from '@sepia/upstream/target-client';
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
  readonly credentials: Readonly<
    Record<string, { readonly username: string; readonly 'password-file': string }>
  >;
  readonly log: Logger;
  readonly nowMs: () => number;
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

function open({ cluster, credentials, log, nowMs }: Deps, name: string): ResultRegistry {
  const upstream = cluster.upstream(name);
  const account = credentials[name];
  const url = upstream.url ?? cluster.members('proxy')[0]?.urls[0];
  if (url === undefined)
    throw new CodedError('CONFIG_INVALID', {
      message: `upstream ${name} has no url, and there is no proxy to write to`,
    });
  const client = new TargetClient(
    {
      name,
      url,
      insecure: upstream.insecure,
      credentials:
        account === undefined
          ? undefined
          : {
              username: account.username,
              password: secret(account['password-file'], `credentials.${name}.password-file`),
            },
      ca: upstream.ca === undefined ? undefined : text(upstream.ca, `upstreams.${name}.ca`),
      log,
      nowMs,
    },
    { connections: CONNECTIONS },
  );
  return { client, places: new Places(), host: client.host };
}

function secret(file: string, key: string): string {
  const found = text(file, key).trim();
  if (found === '') throw new CodedError('CONFIG_INVALID', { message: `${key}: ${file} is empty` });
  return found;
}

function text(file: string, key: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('CONFIG_INVALID', {
      message: `${key}: ${file} cannot be read (${systemCode(cause)})`,
      cause,
    });
  }
}
