import type { BlobBackend, BlobSource } from '@sepia/backend/blob-backend';
import { FirstOf } from '@sepia/backend/first-of';
import { CodedError } from '@sepia/base/errors';
import type { Logger } from '@sepia/base/log';
import type { Cluster, ClusterUpstream } from '@sepia/cluster/cluster';
import { accessMode } from '@sepia/face/access/rules';
import type { Authorizer } from '@sepia/upstream/authenticator';
import { baseOf } from '@sepia/upstream/client-setup';
import { proxyEnvironment } from '@sepia/upstream/core/proxy-choice';
import { type CredentialConfig, openCredentials } from '@sepia/upstream/credentials/open';
import { UpstreamClient } from '@sepia/upstream/upstream-client';
import { TagPolicies, type TagRules } from './core/tag-policy.ts';

interface UpstreamsDeps {
  readonly cluster: Cluster;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly dateMs: () => number;
  readonly credentials: Readonly<Record<string, CredentialConfig>>;
  /** By upstream; theirs who opened them. */
  readonly backends: ReadonlyMap<string, BlobBackend>;
  /** The environment of the process: HTTP proxies, and where helpers are. */
  readonly env: Readonly<Record<string, string | undefined>>;
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
  /** How long an upstream may think before it begins to answer, in ms. */
  readonly firstByteMs: number;
  readonly #cluster: Cluster;
  readonly #clients = new Map<string, UpstreamClient>();
  readonly #policies = new Map<string, TagPolicies>();
  readonly #anonymous = new Map<string, Authorizer>();
  readonly #backends: ReadonlyMap<string, BlobBackend>;

  /** @throws {CodedError} `CONFIG_INVALID` for credentials without upstream or an unreadable password file */
  constructor(deps: UpstreamsDeps, options: { readonly progressMs: number; readonly firstByteMs: number }) {
    this.#cluster = deps.cluster;
    this.#backends = deps.backends;
    const rules = deps.cluster.document.replication;
    for (const name of Object.keys(deps.credentials)) {
      const isNamed = rules.some((one) => one.credentials === name);
      if (!isNamed && !deps.cluster.upstreams.some((one) => one.name === name)) {
        throw new CodedError('CONFIG_INVALID', {
          message: `credentials.${name}: the cluster document has no upstream and no replication of this name`,
        });
      }
    }
    this.firstByteMs = options.firstByteMs;
    const proxies = proxyEnvironment(deps.env);
    for (const upstream of deps.cluster.upstreams) {
      if (upstream.url === undefined) continue;
      const identity = openCredentials(
        deps,
        upstream.name,
        deps.credentials[upstream.name],
        baseOf(upstream.url),
      );
      const { credentials, certificate } = identity;
      const access = accessMode(deps.cluster, upstream.name);
      if (certificate !== undefined && access === 'upstream')
        throw new CodedError('CONFIG_INVALID', {
          message: `credentials.${upstream.name}.certificate: the upstream lets everybody in who comes by it, so it cannot say who else may read; set access: cluster or accounts for it in the cluster document`,
        });
      const limits = { headersTimeoutMs: options.firstByteMs, bodyTimeoutMs: options.progressMs };
      const fetchWith = upstream['fetch-with'];
      const { names } = deps;
      const isChecked = names !== undefined && access === 'upstream';
      const client: UpstreamClient = new UpstreamClient(
        {
          upstream,
          identity,
          proxies,
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

  /** True where only origins have what is pushed until the registry behind has it (mode write-back). */
  keepsPushes(name: string): boolean {
    return this.takesDeletes(name) && this.client(name) !== undefined;
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

  /**
   * Where blobs are read from that no origin has, or undefined where origins alone keep them. Mode none: the backends of
   * all upstreams of that mode, its own first, since a blob may be mounted from one to another. pull-through: its
   * backend, then its registry. @throws {CodedError} `UPSTREAM_UNKNOWN`
   */
  blobs(name: string, authorization?: string): BlobSource | undefined {
    const client = this.client(name, authorization);
    const own = this.#backends.get(name);
    if (client !== undefined)
      return own === undefined ? client : new FirstOf([own, client], { lastDecides: true });
    const others = this.#cluster.upstreams
      .filter((one) => one.mode === 'none' && one.name !== name)
      .map((one) => this.#backends.get(one.name));
    const all = [own, ...others].filter((one) => one !== undefined);
    return all.length === 0 ? undefined : new FirstOf(all, { lastDecides: false });
  }

  /** True where bytes of a registry come from a backend, which knows blobs by digest alone. */
  isBacked(name: string): boolean {
    return this.#clients.has(name) && this.#backends.has(name);
  }

  /** What holds for a tag. @throws {CodedError} `UPSTREAM_UNKNOWN` */
  tagRules(name: { readonly upstream: string; readonly repository: string; readonly tag: string }): TagRules {
    return this.#policiesOf(name.upstream).rulesOf(name.repository, name.tag);
  }

  /** True if a repository may have immutable tags. @throws {CodedError} `UPSTREAM_UNKNOWN` */
  mayKeepTags(name: { readonly upstream: string; readonly repository: string }): boolean {
    return this.#policiesOf(name.upstream).mayKeep(name.repository);
  }

  /** Asks an upstream in nobody's name; undefined in mode none. */
  anonymous(name: string): Authorizer | undefined {
    return this.#anonymous.get(name);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#clients.values()].map(async (client) => await client.close()));
  }

  #policiesOf(upstream: string): TagPolicies {
    let policies = this.#policies.get(upstream);
    if (policies === undefined) {
      policies = new TagPolicies(this.get(upstream));
      this.#policies.set(upstream, policies);
    }
    return policies;
  }
}
