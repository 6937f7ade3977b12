import type {
  CommandReport,
  CommandRequest,
  NodeCommand,
  NodeCommandState,
} from '@sepia/shared/wire/commands';
import { MAX_LEASE_COMMANDS } from '@sepia/shared/wire/lease';

/** Commands alive at once; further ones are refused. */
export const MAX_COMMANDS = 512;
/** Reports kept over all commands, about 100 MB; a command that could go over is refused. */
export const MAX_REPORTS = 1_000_000;

/** A node with a lease, as far as commands need it. */
export interface CommandNode {
  readonly nodeId: string;
  readonly address?: string | undefined;
}

interface Told {
  readonly bootId: string;
  readonly report: CommandReport;
  readonly address?: string | undefined;
}

interface Entry {
  readonly request: CommandRequest;
  readonly text: string;
  readonly nodes: ReadonlySet<string> | undefined;
  readonly expiresAtMs: number;
  readonly told: Map<string, Told>;
}

/** What became of a command that was handed in. */
export type Submission = 'new' | 'known' | 'other' | 'full';

/**
 * Commands to nodes and what each node said of them. A command is handed to a node with each heartbeat until the
 * node reports it; what an earlier boot of the node left unfinished is handed out again. Pure; time is passed in.
 */
export class CommandBook {
  readonly #entries = new Map<string, Entry>();
  #reports = 0;

  get size(): number {
    return this.#entries.size;
  }

  /** Takes a command. `other`: this id has another content; `full`: too many live, or too many nodes to keep reports of. */
  submit(request: CommandRequest, nodeCount: number, nowMs: number): Submission {
    const { id, nodes, ttlMs } = request;
    const text = JSON.stringify([request.type, request.detail, nodes ?? null]);
    const known = this.#entries.get(id);
    if (known !== undefined) return known.text === text ? 'known' : 'other';
    const expected = (this.#entries.size + 1) * Math.min(nodeCount, nodes?.length ?? nodeCount);
    if (this.#entries.size >= MAX_COMMANDS || expected > MAX_REPORTS || this.#reports >= MAX_REPORTS)
      return 'full';
    this.#entries.set(id, {
      request,
      text,
      nodes: nodes === undefined ? undefined : new Set(nodes),
      expiresAtMs: nowMs + ttlMs,
      told: new Map(),
    });
    return 'new';
  }

  /** No node is told of it any more. False if it is not known. */
  withdraw(id: string): boolean {
    const entry = this.#entries.get(id);
    if (entry === undefined) return false;
    this.#reports -= entry.told.size;
    return this.#entries.delete(id);
  }

  /** What a node says in its lease; of commands that are not known here nothing is kept. */
  report(node: CommandNode, bootId: string, reports: readonly CommandReport[]): void {
    for (const report of reports) {
      const entry = this.#entries.get(report.id);
      if (entry === undefined || !isMeant(entry, node.nodeId)) continue;
      if (!entry.told.has(node.nodeId)) this.#reports += 1;
      entry.told.set(node.nodeId, { bootId, report, address: node.address });
    }
  }

  /** What a node is to be told now, oldest first, and whether it has anything unfinished. */
  due(nodeId: string, bootId: string, nowMs: number): { commands: NodeCommand[]; unfinished: boolean } {
    const commands: NodeCommand[] = [];
    let unfinished = false;
    for (const entry of this.#entries.values()) {
      if (entry.expiresAtMs <= nowMs || !isMeant(entry, nodeId)) continue;
      const told = entry.told.get(nodeId);
      if (told !== undefined && told.report.state !== 'running') continue;
      unfinished = true;
      if (told?.bootId === bootId || commands.length >= MAX_LEASE_COMMANDS) continue;
      const { id, type, detail } = entry.request;
      commands.push({ id, type, detail, expiresInMs: entry.expiresAtMs - nowMs } as NodeCommand);
    }
    return { commands, unfinished };
  }

  /** Every node that a command is meant for or was reported by; undefined if the command is not known. */
  state(
    id: string,
    leased: Iterable<CommandNode>,
    nowMs: number,
  ): { type: CommandRequest['type']; expiresInMs: number; nodes: NodeCommandState[] } | undefined {
    const entry = this.#entries.get(id);
    if (entry === undefined) return undefined;
    const nodes: NodeCommandState[] = [];
    const seen = new Set<string>();
    for (const { nodeId, address } of leased) {
      if (!isMeant(entry, nodeId)) continue;
      seen.add(nodeId);
      nodes.push(stateOf(nodeId, address, true, entry.told.get(nodeId)?.report));
    }
    for (const [nodeId, { report, address }] of entry.told)
      if (!seen.has(nodeId)) nodes.push(stateOf(nodeId, address, false, report));
    for (const nodeId of entry.nodes ?? [])
      if (!seen.has(nodeId) && !entry.told.has(nodeId))
        nodes.push(stateOf(nodeId, undefined, false, undefined));
    return { type: entry.request.type, expiresInMs: Math.max(0, entry.expiresAtMs - nowMs), nodes };
  }

  /** Drops what has run out. */
  expire(nowMs: number): void {
    for (const [id, entry] of this.#entries) if (entry.expiresAtMs <= nowMs) this.withdraw(id);
  }
}

function isMeant(entry: Entry, nodeId: string): boolean {
  return entry.nodes === undefined || entry.nodes.has(nodeId);
}

function stateOf(
  nodeId: string,
  address: string | undefined,
  leased: boolean,
  report: CommandReport | undefined,
): NodeCommandState {
  const { id: _id, ...said } = report ?? { id: '', state: 'pending' as const };
  return { nodeId, leased, ...(address === undefined ? {} : { address }), ...said };
}
