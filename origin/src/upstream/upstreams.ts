import { readFileSync } from 'node:fs';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { Cluster, ClusterUpstream } from '@sepia/cluster/cluster';
import { accessMode } from '@sepia/face/access/rules';
import type { Authorizer } from '@sepia/upstream/authenticator';
import { UpstreamClient } from '@sepia/upstream/upstream-client';
import { TagPolicies, type TagRules } from '../records/core/tag-policy.ts';

interface UpstreamsDeps {
  readonly cluster: Cluster;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly credentials: Readonly<
    Record<string, { readonly username: string; readonly 'password-file': string }>
  >;
  /** In whose name a repository of an upstream with access `upstream` is read; see `namesToFetchWith`. */
  readonly names?: (fetching: Fetching, repository: string, signal: AbortSignal) => AsyncIterable<Authorizer>;
}

/** An upstream whose content is fetched in several names. */
export interface Fetching {
  readonly name: string;
  readonly client: UpstreamClient;
  /** Nobody's name. */
  readonly anonymous: Authorizer;
  readonly hasRobot: boolean;
  readonly fetchWith: 'any' | 'robot' | 'client';
}

/** The upstreams of the cluster with a client for each that has a registry behind it. */
export class Upstreams {
  readonly #cluster: Cluster;
  readonly #clients = new Map<string, UpstreamClient>();
  readonly #policies = new Map<string, TagPolicies>();
  readonly #anonymous = new Map<string, Authorizer>();

  /** @throws {CodedError} `CONFIG_INVALID` for credentials without upstream or an unreadable password file */
  constructor(deps: UpstreamsDeps, options: { readonly progressMs: number }) {
    this.#cluster = deps.cluster;
    const rules = deps.cluster.document.replication;
    for (const name of Object.keys(deps.credentials)) {
      const isNamed = rules.some((one) => one.credentials === name);
      if (!isNamed && !deps.cluster.upstreams.some((one) => one.name === name)) {
        throw new CodedError('CONFIG_INVALID', {
          message: `credentials.${name}: the cluster document has no upstream and no replication of this name`,
        });
      }
    }
    for (const upstream of deps.cluster.upstreams) {
      if (upstream.mode === 'none') continue;
      const named = deps.credentials[upstream.name];
      const credentials =
        named === undefined
          ? undefined
          : { username: named.username, password: readPassword(upstream.name, named['password-file']) };
      const limits = { headersTimeoutMs: options.progressMs, bodyTimeoutMs: options.progressMs };
      const fetchWith = upstream['fetch-with'];
      const { names } = deps;
      const isChecked = names !== undefined && accessMode(deps.cluster, upstream.name) === 'upstream';
      const client: UpstreamClient = new UpstreamClient(
        {
          upstream,
          credentials,
          log: deps.log,
          nowMs: deps.nowMs,
          ...(isChecked ? { names: (repository, signal) => names(fetching, repository, signal) } : {}),
        },
        limits,
      );
      const anonymous = credentials === undefined ? client.own : client.authorizer(undefined);
      const fetching = {
        name: upstream.name,
        client,
        anonymous,
        hasRobot: credentials !== undefined,
        fetchWith,
      };
      this.#clients.set(upstream.name, client);
      this.#anonymous.set(upstream.name, anonymous);
    }
  }

  /** @throws {CodedError} `UPSTREAM_UNKNOWN` */
  get(name: string): ClusterUpstream {
    return this.#cluster.upstream(name);
  }

  /** True where Sepia is the source of truth, so that content can be deleted here. */
  takesDeletes(name: string): boolean {
    return this.#cluster.takesDeletes(name);
  }

  /**
   * The client of an upstream, or undefined in mode none; with `authorization` it uses that and not this origin's
   * credentials. @throws {CodedError} `UPSTREAM_UNKNOWN`
   */
  client(name: string, authorization?: string): UpstreamClient | undefined {
    this.get(name);
    const own = this.#clients.get(name);
    return authorization === undefined ? own : own?.as(authorization);
  }

  /** What holds for a tag. @throws {CodedError} `UPSTREAM_UNKNOWN` */
  tagRules(name: { readonly upstream: string; readonly repository: string; readonly tag: string }): TagRules {
    let policies = this.#policies.get(name.upstream);
    if (policies === undefined) {
      policies = new TagPolicies(this.get(name.upstream));
      this.#policies.set(name.upstream, policies);
    }
    return policies.rulesOf(name.repository, name.tag);
  }

  /** Asks an upstream in nobody's name; undefined in mode none. */
  anonymous(name: string): Authorizer | undefined {
    return this.#anonymous.get(name);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#clients.values()].map(async (client) => await client.close()));
  }
}

function readPassword(upstream: string, file: string): string {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('CONFIG_INVALID', {
      message: `credentials.${upstream}.password-file: ${file} cannot be read (${systemCode(cause)})`,
      cause,
    });
  }
}
