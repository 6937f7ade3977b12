import Table from 'cli-table3';
import type { AgentBytes } from '../demo/agent-bytes.ts';
import { bytesText } from '../terminal/format.ts';

/** A member as `sepia status` found it. */
export interface MemberStatus {
  readonly name: string;
  readonly role: string;
  readonly url: string;
  readonly pid: number;
  /** `ready`, or why not. */
  readonly state: string;
  /** What it warns of although it is ready: copies that are still missing. */
  readonly warnings: readonly string[];
  readonly bytes: AgentBytes | undefined;
}

const STYLE = { head: [], border: [], compact: true };

/** Two tables that fit 80 columns: all members, and where the agents' bytes came from; below them what is not as it should be. */
export function statusText(all: readonly MemberStatus[]): string {
  const members = new Table({
    head: ['member', 'pid', 'address', 'state'],
    colAligns: ['left', 'right', 'left', 'left'],
    style: STYLE,
  });
  for (const { name, pid, url, state } of all) members.push([name, pid, url, state.split(':', 1)[0]]);
  const bytes = new Table({
    head: ['agent', 'from peers', 'from origins', 'from upstream', 'from cache'],
    colAligns: ['left', 'right', 'right', 'right', 'right'],
    style: STYLE,
  });
  for (const { name, bytes: of } of all)
    if (of !== undefined) bytes.push([name, ...[of.peer, of.origin, of.upstream, of.cache].map(bytesText)]);
  const reasons = all.flatMap(({ name, state, warnings }) =>
    [...(state.includes(':') ? [state] : []), ...warnings].map((one) => `${name}: ${one}`),
  );
  const bad = all.filter((one) => one.state !== 'ready').length;
  const sum =
    bad === 0 ? `All ${all.length} members are ready.` : `${bad} of ${all.length} members are not ready.`;
  const tables = [members, bytes].filter((table) => table.length > 0).map(String);
  return [...tables, ...reasons, sum].join('\n');
}
