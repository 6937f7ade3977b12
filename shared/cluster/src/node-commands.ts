import { answersOf, askAll, withoutAnswer } from '@sepia/base/async/ask-many';
import { CodedError, isCoded } from '@sepia/base/errors';
import type { InternalClient, InternalRequest } from '@sepia/http/client';
import type { z } from 'zod';
import type { COMMAND_REQUEST, CommandState, NodeCommandState } from './api/commands.ts';
import { to } from './api/route.ts';
import { TRACKER } from './api/tracker.ts';
import type { Cluster } from './cluster.ts';
import { COMMAND_MS } from './deadlines.ts';

interface NodeCommandsDeps {
  readonly cluster: Cluster;
  readonly client: InternalClient;
}

/** What the trackers say of a command together. */
export interface CommandView {
  readonly nodes: readonly NodeCommandState[];
  /** Trackers that do not know the command, and ones that did not answer. */
  readonly unaware: readonly string[];
  readonly silent: readonly string[];
}

/**
 * Sends commands to nodes and asks what became of them. Every tracker gets each command, since every node renews its
 * lease at every tracker: one that lives is enough.
 */
export class NodeCommands {
  readonly #deps: NodeCommandsDeps;

  constructor(deps: NodeCommandsDeps) {
    this.#deps = deps;
  }

  get trackerIds(): string[] {
    return this.#deps.cluster.members('tracker').map(({ id }) => id);
  }

  /**
   * Hands a command to trackers (default: all); the same id may be sent again. Returns those that did not take it.
   * @throws `NO_PEERS` when none did, `REQUEST_INVALID`, `OVERLOADED`
   */
  async send(
    command: z.input<typeof COMMAND_REQUEST>,
    trackerIds: readonly string[] = this.trackerIds,
  ): Promise<string[]> {
    const said = await askAll(
      trackerIds,
      async (id) => await this.#ask(id, { ...to(TRACKER.command), json: command }),
    );
    const missed = withoutAnswer(said);
    const cause = said.findLast((one) => one.type !== 'answer')?.error;
    if (trackerIds.length > 0 && missed.length === trackerIds.length)
      throw isCoded(cause) && cause.code !== 'PEER_HTTP'
        ? cause
        : new CodedError('NO_PEERS', { message: 'no tracker takes the command', cause });
    return missed;
  }

  /** Never rejects because of a silent tracker. */
  async view(id: string): Promise<CommandView> {
    const said = await askAll(
      this.trackerIds,
      async (trackerId) => await this.#ask<CommandState>(trackerId, to(TRACKER.commandState, { id })),
    );
    const isUnaware = (one: (typeof said)[number]): boolean =>
      one.type !== 'answer' && isCoded(one.error, 'COMMAND_UNKNOWN');
    const unaware = said.filter(isUnaware).map(({ by }) => by);
    const silent = withoutAnswer(said).filter((trackerId) => !unaware.includes(trackerId));
    return {
      nodes: mergeNodeStates(answersOf(said).map(({ nodes }) => [...nodes])),
      unaware,
      silent,
    };
  }

  async #ask<T>(
    trackerId: string,
    call: Pick<InternalRequest, 'method' | 'path'> & { json?: unknown },
  ): Promise<T> {
    const { cluster, client } = this.#deps;
    return await client.json<T>({
      url: cluster.member(trackerId).urls[0]!,
      to: trackerId,
      ...call,
      headersTimeoutMs: COMMAND_MS,
      bodyTimeoutMs: COMMAND_MS,
    });
  }
}

const RANK = { pending: 0, running: 1, failed: 2, done: 3 } as const;

/** One row per node from what several trackers say: the furthest state counts, a lease anywhere is a lease. */
export function mergeNodeStates(answers: readonly (readonly NodeCommandState[])[]): NodeCommandState[] {
  const merged = new Map<string, NodeCommandState>();
  for (const one of answers.flat()) {
    const known = merged.get(one.nodeId);
    if (known === undefined) {
      merged.set(one.nodeId, one);
      continue;
    }
    const further =
      RANK[one.state] > RANK[known.state] ||
      (one.state === known.state && (one.doneBytes ?? 0) > (known.doneBytes ?? 0));
    const address = known.address ?? one.address;
    merged.set(one.nodeId, {
      ...(further ? one : known),
      leased: known.leased || one.leased,
      ...(address === undefined ? {} : { address }),
    });
  }
  return [...merged.values()].sort((a, b) => (a.nodeId < b.nodeId ? -1 : 1));
}
