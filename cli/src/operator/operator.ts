import { readFileSync } from 'node:fs';
import { askAll, askInTurn } from '@sepia/base/async/ask-many';
import { MemberClock } from '@sepia/base/clock/member-clock';
import { besideConfig, readClusterKey } from '@sepia/base/config/load';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug, tryParse } from '@sepia/base/failure';
import { type ResolvedName, resolveName, upstreamOfHost } from '@sepia/base/names/upstream-name';
import { ORIGIN_RING } from '@sepia/cluster/api/ring';
import { to } from '@sepia/cluster/api/route';
import { Cluster, shardKey } from '@sepia/cluster/cluster';
import { loadClusterDocument } from '@sepia/cluster/load-document';
import { diallingOf } from '@sepia/cluster/member-config';
import { ringOfMost, type ToldRing } from '@sepia/cluster/membership';
import { RING_ANSWER } from '@sepia/cluster/ring-messages';
import { InternalClient, type InternalRequest } from '@sepia/http/client';
import { createDispatcher, type Dispatcher } from '@sepia/http/sockets';
import type { Command } from 'commander';
import { parse } from 'yaml';
import { CALL_MS, CONNECT_MS, RING_MS } from '../deadlines.ts';
import { parseImageReference } from '../registry/image-reference.ts';
import { Waits } from '../terminal/waits.ts';
import { readClusterFile, USUAL_CLUSTER_FILE } from '../up/cluster-file.ts';

/** How a command finds the cluster: the file of `sepia up`, or document and key by name. */
export interface OperatorFlags {
  readonly cluster: string;
  readonly clusterDocument?: string;
  readonly clusterKeyFile?: string;
}

export type OperatorCall = Omit<InternalRequest, 'url' | 'to' | 'headersTimeoutMs' | 'body'> & {
  readonly json?: unknown;
  readonly headersTimeoutMs?: number;
};

/** A name of the command line with the upstream that it belongs to. */
export interface OperatorName extends ResolvedName {
  /** Tag or digest. */
  readonly reference: string;
}

/** The options by which every operator's command finds its cluster. */
export function operatorOptions(command: Command): Command {
  return command
    .option('--cluster <file>', 'cluster.json of "sepia up"', USUAL_CLUSTER_FILE)
    .option('--cluster-document <file>', 'cluster document, where there is no cluster.json')
    .option('--cluster-key-file <file>', 'cluster key, where there is no cluster.json');
}

/** Signed calls of an operator to the origins of a cluster. Close it. */
export class Operator {
  readonly cluster: Cluster;
  readonly clusterKey: Uint8Array;
  readonly #client: InternalClient;
  readonly #dispatcher: Dispatcher;
  #followed: Promise<void> | undefined;
  #otherRings: readonly ToldRing[] = [];
  readonly #agentHosts: readonly string[];
  readonly #waits: Waits;

  /** `agentHosts`: where agents listen, as `docker pull 127.0.0.1:17000/…` names them. */
  constructor(
    cluster: Cluster,
    clusterKey: Uint8Array,
    agentHosts: readonly string[] = [],
    waits = new Waits(process.stderr),
  ) {
    this.cluster = cluster;
    this.#waits = waits;
    this.#agentHosts = agentHosts;
    this.clusterKey = clusterKey;
    const dialling = diallingOf(cluster, clusterKey);
    this.#dispatcher = createDispatcher({ connectTimeoutMs: CONNECT_MS, ...dialling });
    this.#client = new InternalClient({
      dispatcher: this.#dispatcher,
      clusterKey,
      memberId: 'operator',
      clock: new MemberClock(),
    });
  }

  /** @throws {CodedError} `CONFIG_INVALID` that names the file */
  static open(flags: OperatorFlags): Operator {
    const { clusterDocument, clusterKeyFile } = flags;
    if ((clusterDocument === undefined) !== (clusterKeyFile === undefined))
      throw new CodedError('CONFIG_INVALID', {
        message: '--cluster-document and --cluster-key-file belong together',
      });
    const files =
      clusterDocument === undefined
        ? filesOf(flags.cluster)
        : { document: clusterDocument, key: clusterKeyFile!, agentHosts: [] };
    const cluster = new Cluster(loadClusterDocument(files.document));
    return new Operator(cluster, readClusterKey(files.key), files.agentHosts);
  }

  get originIds(): string[] {
    return this.cluster.members('origin').map((member) => member.id);
  }

  /** Origins that name another ring than the one that is followed, when they were asked last. */
  get otherRings(): readonly ToldRing[] {
    return this.#otherRings;
  }

  /** Follows the membership that most origins agreed on, of those that tell it. Asked once, or `anew`. */
  async follow(anew = false): Promise<void> {
    if (anew) this.#followed = undefined;
    this.#followed ??= this.#askRing();
    await this.#followed;
  }

  /** A call to the first origin of the ring that answers. @throws what it names, `NO_PEERS` */
  async askAny<T>(call: OperatorCall): Promise<T> {
    const isFinal = (error: unknown): boolean =>
      !isCoded(error, 'PEER_HTTP') && !isCoded(error, 'RECORDS_PENDING');
    try {
      return await askInTurn(this.cluster.owningIds, async (id) => await this.ask<T>(id, call), { isFinal });
    } catch (error) {
      throwIfBug(error);
      if (isFinal(error)) throw error;
      throw new CodedError('NO_PEERS', {
        message: `no origin takes the change: ${(error as Error).message}`,
        cause: error,
      });
    }
  }

  async #askRing(): Promise<void> {
    const answers = await this.#each<unknown>({ ...to(ORIGIN_RING.membership), headersTimeoutMs: RING_MS });
    const told = answers.flatMap(({ id, answer }) => {
      const one = RING_ANSWER.safeParse(answer).data;
      return one?.founded === true ? [{ by: id, membership: one.membership }] : [];
    });
    const { ring, others } = ringOfMost(told);
    this.#otherRings = others;
    if (ring !== undefined) this.cluster.follow(ring);
  }

  /** Upstream, repository and reference of `[HOST/]REPOSITORY[:TAG|@DIGEST]`. @throws `UPSTREAM_UNKNOWN`, `REQUEST_INVALID` */
  nameOf(text: string): OperatorName {
    const { host: named, repository, reference } = parseImageReference(text);
    // An agent's own address means the default upstream, to the agent too.
    const agents = [{ name: 'agents', hosts: this.#agentHosts }];
    const host = named === undefined || upstreamOfHost(named, agents) !== undefined ? undefined : named;
    const name = host === undefined ? repository : `${host}/${repository}`;
    const known = resolveName(
      { ns: host, name, defaultUpstream: this.cluster.defaultUpstream },
      this.cluster.upstreams,
    );
    return { ...known, reference };
  }

  /** A call to one origin, JSON both ways. @throws what the origin names, `PEER_HTTP` if it does not answer */
  async ask<T>(id: string, call: OperatorCall): Promise<T> {
    const url = this.cluster.member(id).urls[0]!;
    const limitMs = call.headersTimeoutMs ?? CALL_MS;
    const answer = this.#client.json<T>({ ...call, headersTimeoutMs: limitMs, url, to: id });
    return await this.#waits.of(id, limitMs, answer);
  }

  /** A call to the first owner of a repository that answers. */
  async askOwner<T>(name: ResolvedName, call: OperatorCall): Promise<T> {
    await this.follow();
    const { order } = this.cluster.origins(shardKey(name.upstream, name.repository));
    const isFinal = (error: unknown): boolean =>
      !isCoded(error) || (!error.facts.retryable && error.code !== 'INTERNAL');
    return await askInTurn(order, async (id) => await this.ask<T>(id, call), { isFinal });
  }

  /** A call to the first proxy that answers. @throws what it names, `NO_PEERS` */
  async askProxy<T>(call: OperatorCall): Promise<T> {
    const isFinal = (error: unknown): boolean => !isCoded(error, 'PEER_HTTP');
    const ask = async ({ id }: { id: string }): Promise<T> => await this.ask<T>(id, call);
    const proxies = this.cluster.members('proxy');
    try {
      return await askInTurn(proxies, ask, { isFinal });
    } catch (error) {
      throwIfBug(error);
      // A proxy that names NO_PEERS has answered: it speaks of others.
      if (proxies.length > 0 && isFinal(error)) throw error;
      throw new CodedError('NO_PEERS', { message: 'no proxy of the cluster answers', cause: error });
    }
  }

  /** The same call to all origins at once. */
  async askAll<T>(call: OperatorCall): Promise<{ id: string; answer?: T; error?: unknown }[]> {
    await this.follow();
    return await this.#each<T>(call);
  }

  async #each<T>(call: OperatorCall): Promise<{ id: string; answer?: T; error?: unknown }[]> {
    const said = await askAll(this.originIds, async (id) => await this.ask<T>(id, call));
    return said.map((one) =>
      one.type === 'answer' ? { id: one.by, answer: one.answer } : { id: one.by, error: one.error },
    );
  }

  async close(): Promise<void> {
    await this.#dispatcher.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Document and key of a cluster of `sepia up`: its members' configs name them. */
function filesOf(clusterFile: string): { document: string; key: string; agentHosts: string[] } {
  const { origins, agents } = readClusterFile(
    clusterFile,
    ', or its document and key with --cluster-document and --cluster-key-file',
  );
  const config = origins[0]?.config ?? '';
  const read = tryParse(
    () => parse(readFileSync(config, 'utf8')) as Readonly<Record<string, unknown>> | null,
  );
  const [document, key] = ['cluster-document', 'cluster-key-file'].map((name) =>
    read.ok ? read.value?.[name] : undefined,
  );
  if (typeof document === 'string' && typeof key === 'string')
    return {
      document: besideConfig(config, document),
      key: besideConfig(config, key),
      agentHosts: agents.map(({ url }) => new URL(url).host),
    };
  throw new CodedError('CONFIG_INVALID', {
    message: `${clusterFile}: the config ${config} of its first origin cannot be read`,
    cause: read.ok ? undefined : read.cause,
  });
}
