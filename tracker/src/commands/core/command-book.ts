import type {
  CommandReport,
  CommandRequest,
  NodeCommand,
  NodeCommandState,
} from '@sepia/cluster/api/commands';
import { MAX_LEASE_COMMANDS } from '@sepia/cluster/api/lease';

/** What commands of one kind may take here: none crowds out another. All reports together are about 100 MB. */
interface Budget {
  readonly commands: number;
  readonly reports: number;
}

const OTHER: Budget = { commands: 64, reports: 60_000 };
/** Commands alive at once and reports kept of them, by kind. */
export const BUDGETS: Readonly<Record<CommandRequest['type'], Budget>> = {
  prefetch: { commands: 256, reports: 400_000 },
  purge: { commands: 256, reports: 400_000 },
  limits: OTHER,
  drain: OTHER,
  ban: OTHER,
};

/** A node with a lease, as far as commands need it. */
export interface CommandNode {
  readonly nodeId: string;
  readonly address?: string | undefined;
}

/** Nodes that have a lease. */
export interface LeasedNodes {
  readonly count: number;
  ids(): Iterable<string>;
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

  get size(): number {
    return this.#entries.size;
  }

  /**
   * Takes a command. Where its kind has used up its budget, those go that every leased node has carried out, of purges
   * then the oldest: nodes hear of deletions by revocations as well. `other`: this id has another content; `full`: too
   * many of its kind live, or too many nodes to keep reports of.
   */
  submit(request: CommandRequest, leased: LeasedNodes, nowMs: number): Submission {
    const { id, nodes, ttlMs } = request;
    const text = JSON.stringify([request.type, request.detail, nodes ?? null]);
    const known = this.#entries.get(id);
    if (known !== undefined) return known.text === text ? 'known' : 'other';
    if (!this.#makeRoom(request, leased, nowMs)) return 'full';
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
    return this.#entries.delete(id);
  }

  #makeRoom({ type, nodes }: CommandRequest, leased: LeasedNodes, nowMs: number): boolean {
    const budget = BUDGETS[type];
    const own = Math.min(leased.count, nodes?.length ?? leased.count);
    if (own > budget.reports) return false;
    this.expire(nowMs);
    const alive = [...this.#entries].filter(([, entry]) => entry.request.type === type);
    let commands = alive.length;
    let reports = alive.reduce((sum, [, entry]) => sum + reportsOf(entry, leased.count), 0);
    const isFull = (): boolean => commands >= budget.commands || reports + own > budget.reports;
    const drop = (id: string, entry: Entry): void => {
      this.#entries.delete(id);
      commands -= 1;
      reports -= reportsOf(entry, leased.count);
    };
    for (const [id, entry] of alive) if (isFull() && isCarriedOut(entry, leased)) drop(id, entry);
    if (type === 'purge')
      for (const [id, entry] of alive) if (isFull() && this.#entries.has(id)) drop(id, entry);
    return !isFull();
  }

  /** What a node says in its lease; of commands that are not known here nothing is kept. */
  report(node: CommandNode, bootId: string, reports: readonly CommandReport[]): void {
    for (const report of reports) {
      const entry = this.#entries.get(report.id);
      if (entry === undefined || !isMeant(entry, node.nodeId)) continue;
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

/** Reports that a command has, or is still to get from nodes with a lease. */
function reportsOf({ told, nodes }: Entry, leasedCount: number): number {
  return Math.max(told.size, Math.min(leasedCount, nodes?.size ?? leasedCount));
}

/** True when every leased node that it is meant for has reported an end; false while nobody has said anything. */
function isCarriedOut(entry: Entry, leased: LeasedNodes): boolean {
  const { told, nodes } = entry;
  if (told.size === 0 || (nodes === undefined && told.size < leased.count)) return false;
  for (const id of leased.ids())
    if (isMeant(entry, id) && (told.get(id)?.report.state ?? 'running') === 'running') return false;
  return true;
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
