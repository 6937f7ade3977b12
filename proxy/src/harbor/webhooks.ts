import { askInTurn } from '@sepia/base/async/ask-many';
import { CodedError, isCoded } from '@sepia/base/errors';
import type { Logger } from '@sepia/base/log';
import { matcherOf } from '@sepia/base/names/pattern';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { upstreamOfHost } from '@sepia/base/names/upstream-name';
import { projectOf } from '@sepia/cluster/api/conversions';
import { H_STALE } from '@sepia/cluster/api/headers';
import { ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { headTo } from '@sepia/cluster/api/route';
import { type Cluster, shardKey } from '@sepia/cluster/cluster';
import { isDefinite } from '@sepia/cluster/core/answers';
import type { Reference } from '@sepia/oci/route';
import { whileAlive } from '../bodies/blob-source.ts';
import { headerOf, type Origins } from '../cluster/origins.ts';
import type { Conversions } from '../conversions/conversions.ts';
import { ACCEPT_MS, PREHEAT_MS, REFRESH_MS } from '../deadlines.ts';
import type { HarborConfig } from './config.ts';
import type { ImageName } from './core/image-url.ts';
import type { Scope } from './core/messages.ts';
import type { HarborEvent } from './core/webhook.ts';
import { EventQueue } from './event-queue.ts';
import type { Preheat, PreheatRequest } from './preheat.ts';
import type { Purger } from './purger.ts';
import type { Records } from './records.ts';

/** What an event asks for, as it stands on record. */
type Task = Omit<HarborEvent, 'key' | 'host'> & { readonly upstream: string };

interface WebhooksDeps {
  readonly cluster: Cluster;
  readonly origins: Origins;
  readonly records: Records;
  readonly purger: Purger;
  /** Gets pushes and deletions of tags before they count as carried out. */
  readonly conversions: Conversions;
  readonly preheat: (request: PreheatRequest) => Preheat;
  readonly config: HarborConfig['webhook'];
  readonly memberId: string;
  readonly log: Logger;
  readonly dateMs: () => number;
}

/** Events of Harbor: on record first, then carried out, by this proxy or another. */
export class Webhooks {
  readonly #deps: WebhooksDeps;
  readonly #queue: EventQueue<Task>;
  readonly #rules: readonly { readonly matches: (repository: string) => boolean; readonly scope: Scope }[];

  constructor(deps: WebhooksDeps, options: { readonly lookEveryMs?: number } = {}) {
    this.#deps = deps;
    this.#rules = deps.config.prefetch.map(({ repositories, scope }) => ({
      matches: matcherOf(repositories),
      scope,
    }));
    this.#queue = new EventQueue(
      {
        ...deps,
        ownerOf: (task: Task) => projectOf(task),
        work: async (task, { key, tries }, signal) =>
          await (task.kind === 'push'
            ? this.#pushed(task, commandIdOf(key, tries), signal)
            : this.#deleted(task, key, signal)),
      },
      options,
    );
  }

  start(): void {
    this.#queue.start();
  }

  async stop(): Promise<void> {
    await this.#queue.stop();
  }

  /**
   * Resolves when every event is on a quorum of origins.
   * @throws `UPSTREAM_UNKNOWN`, `OVERLOADED`, `QUORUM_LOST`, `TIMEOUT`: Harbor sends it again
   */
  async take(events: readonly HarborEvent[]): Promise<void> {
    const tasks = events.map(({ key, host, ...rest }) => {
      const upstream = upstreamOfHost(host, this.#deps.cluster.upstreams);
      if (upstream === undefined)
        throw new CodedError('UPSTREAM_UNKNOWN', {
          message: `no upstream answers to ${host}; add it to "hosts" of the upstream in the cluster document`,
        });
      return { name: key, payload: { ...rest, upstream: upstream.name } };
    });
    let late: NodeJS.Timeout | undefined;
    try {
      await Promise.race([
        this.#queue.accept(tasks),
        new Promise<never>((_, reject) => {
          late = setTimeout(
            () =>
              reject(new CodedError('TIMEOUT', { message: 'the event is not on record yet; send it again' })),
            ACCEPT_MS,
          );
        }),
      ]);
    } finally {
      clearTimeout(late);
    }
  }

  async #pushed(task: Task, commandId: string, signal: AbortSignal): Promise<void> {
    const repository = parseRepositoryName(task.repository);
    const { upstream } = task;
    const scope = this.#rules.find(({ matches }) => matches(repository))?.scope;
    try {
      if (task.tag !== undefined)
        await this.#refresh({ upstream, repository, reference: { kind: 'tag', tag: task.tag } }, signal);
      await this.#convert(task);
      if (scope === undefined) return;
      const image: ImageName = { upstream, repository, reference: referenceOf(task) };
      const request = { image, scope, authorization: undefined, commandId };
      await this.#deps.preheat(request).run(AbortSignal.any([signal, AbortSignal.timeout(PREHEAT_MS)]));
    } catch (error) {
      signal.throwIfAborted();
      // Pushed and deleted since, or never to be had: trying again would change nothing.
      if (!isCoded(error) || !isDefinite(error)) throw error;
      this.#deps.log.warn({ err: error, ...task }, 'pushed image was not brought along');
    }
  }

  async #deleted(task: Task, key: string, signal: AbortSignal): Promise<void> {
    const repository = parseRepositoryName(task.repository);
    const { upstream, digest, tag } = task;
    const { mode } = this.#deps.cluster.upstream(upstream);
    if (mode !== 'none')
      await this.#deps.purger.purge({ upstream, repository, digest, tag }, `purge-${key}`, signal);
    await this.#convert(task);
  }

  /** What the rules make of the event stands in the queue of conversions when this resolves. */
  async #convert({ kind, upstream, repository, tag, digest }: Task): Promise<void> {
    if (tag !== undefined) await this.#deps.conversions.take({ kind, upstream, repository, tag, digest });
  }

  /** The tag is asked for upstream now. */
  async #refresh(image: ImageName, signal: AbortSignal): Promise<void> {
    const { origins } = this.#deps;
    const reference = image.reference.kind === 'tag' ? image.reference.tag : image.reference.digest;
    const call = headTo(ORIGIN_NAMES.manifest, { ...image, reference, fresh: true });
    const order = origins.tries(shardKey(image.upstream, image.repository));
    const ask = async (id: string): Promise<void> => {
      const answer = await whileAlive(origins, id, signal, (running) =>
        origins.call(id, { ...call, headersTimeoutMs: REFRESH_MS, signal: running }),
      );
      await answer.body.dump();
      if (headerOf(answer, H_STALE) !== undefined)
        throw new CodedError('BACKEND_DOWN', {
          message: 'the registry does not confirm the tag at present',
        });
    };
    await askInTurn(order, ask, { signal, isFinal: isDefinite });
  }
}

/**
 * Who carries a push on where another proxy died means the same command; a try after a failure is a new one: nodes that
 * failed remember the former, and would only say so once more.
 */
function commandIdOf(key: string, tries: number): string {
  return tries === 0 ? `push-${key}` : `push-${key}-${tries}`;
}

function referenceOf({ digest, tag }: Task): Reference {
  return digest === undefined ? { kind: 'tag', tag: tag! } : { kind: 'digest', digest };
}
