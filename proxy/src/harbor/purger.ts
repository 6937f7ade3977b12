import { askAll, askInTurn, withoutAnswer } from '@sepia/base/async/ask-many';
import type { Audit } from '@sepia/base/audit';
import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import type { RepositoryName, Tag } from '@sepia/base/names/repository';
import { ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { PROXY } from '@sepia/cluster/api/proxy';
import { to } from '@sepia/cluster/api/route';
import { type Cluster, shardKey } from '@sepia/cluster/cluster';
import { isDefinite } from '@sepia/cluster/core/answers';
import type { NodeCommands } from '@sepia/cluster/node-commands';
import type { InternalClient } from '@sepia/http/client';
import { readLimited } from '@sepia/http/client';
import { whileAlive } from '../bodies/blob-source.ts';
import type { Origins } from '../cluster/origins.ts';
import { PURGE_COMMAND_MS, PURGE_ORIGIN_MS, PURGE_PROXY_MS } from '../deadlines.ts';
import type { ManifestCache } from '../registry/core/manifest-cache.ts';

/** What is to go. */
export interface PurgeOrder {
  readonly upstream: string;
  readonly repository: RepositoryName;
  readonly digest?: Digest | undefined;
  readonly tag?: Tag | undefined;
}

interface PurgerDeps {
  readonly audit: Audit;
  readonly cluster: Cluster;
  readonly client: InternalClient;
  readonly origins: Origins;
  readonly commands: NodeCommands;
  readonly cache: ManifestCache;
  readonly memberId: string;
}

/** Takes deleted content away from origins, proxies and nodes, once the upstream confirms that it is gone. */
export class Purger {
  readonly #deps: PurgerDeps;

  constructor(deps: PurgerDeps) {
    this.#deps = deps;
  }

  /** Drops a manifest from this proxy's memory. */
  purgeHere({ upstream, repository, digest }: PurgeOrder): void {
    if (digest !== undefined) this.#deps.cache.revoke([{ upstream, repository, digest }]);
  }

  /**
   * Idempotent; `id` names the command to nodes. @throws `NO_PEERS` that names the members that were not reached: do it
   * again; what the origins answer
   */
  async purge(order: PurgeOrder, id: string, signal: AbortSignal): Promise<{ gone: boolean }> {
    const { upstream, repository, digest, tag } = order;
    const what = { ...(digest === undefined ? {} : { digest }), ...(tag === undefined ? {} : { tag }) };
    const { gone, missed } = await this.#askOrigins(order, what, signal);
    if (!gone) return { gone };
    this.#deps.audit.note({ event: 'purge', upstream, repository, reference: tag, digest });
    this.purgeHere(order);
    const { client, cluster, memberId } = this.#deps;
    const proxies = cluster.members('proxy').filter((one) => one.id !== memberId);
    const call = {
      ...to(PROXY.purge),
      json: { upstream, repository, digest },
      headersTimeoutMs: PURGE_PROXY_MS,
      signal,
    };
    const told = await askAll(proxies, async ({ id: proxy, urls }) => {
      await client.json({ ...call, url: urls[0]!, to: proxy });
    });
    missed.push(...withoutAnswer(told).map((proxy) => proxy.id));
    const detail = { upstream, repository, ...what };
    missed.push(...(await this.#deps.commands.send({ id, type: 'purge', detail, ttlMs: PURGE_COMMAND_MS })));
    if (missed.length > 0)
      throw new CodedError('NO_PEERS', { message: `not purged yet at ${missed.join(', ')}` });
    return { gone };
  }

  async #askOrigins(
    order: PurgeOrder,
    what: object,
    signal: AbortSignal,
  ): Promise<{ gone: boolean; missed: string[] }> {
    const { origins } = this.#deps;
    const tries = origins.tries(shardKey(order.upstream, order.repository));
    const ask = async (id: string): Promise<{ gone: boolean; missed: string[] }> => {
      const answer = await whileAlive(origins, id, signal, (running) =>
        origins.call(id, {
          ...to(ORIGIN_NAMES.purge, order),
          body: JSON.stringify(what),
          headers: { 'content-type': 'application/json' },
          headersTimeoutMs: PURGE_ORIGIN_MS,
          signal: running,
        }),
      );
      return JSON.parse((await readLimited(answer.body, 1024 * 1024, id)).toString('utf8'));
    };
    return await askInTurn(tries, ask, { signal, isFinal: isDefinite });
  }
}
