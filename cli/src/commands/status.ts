import { ignoreFailure } from '@sepia/base/failure';
import { createDispatcher, type Dispatcher } from '@sepia/http/sockets';
import Table from 'cli-table3';
import type { Command } from 'commander';
import { LOCAL_CONNECT_MS } from '../deadlines.ts';
import { type AgentBytes, agentBytes } from '../demo/agent-bytes.ts';
import { bytesText } from '../terminal/format.ts';
import { type ClusterFileMember, membersOf, readClusterFile } from '../up/cluster-file.ts';
import { probeMember } from '../up/readiness.ts';

interface MemberStatus {
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

/** `sepia status`: exit 0 only if every member is ready. */
export function addStatus(program: Command): void {
  program
    .command('status')
    .description('show the state of every member of a cluster')
    .option('--cluster <file>', 'its cluster.json', './sepia-data/cluster.json')
    .option('--json', 'print JSON', false)
    .action(async (flags: { cluster: string; json: boolean }) => {
      const cluster = readClusterFile(flags.cluster);
      const dispatcher = createDispatcher({ connectTimeoutMs: LOCAL_CONNECT_MS });
      const all = await Promise.all(membersOf(cluster).map((member) => statusOf(member, dispatcher)));
      await dispatcher.close();
      process.stdout.write(flags.json ? `${JSON.stringify({ members: all })}\n` : `${statusTable(all)}\n`);
      process.exitCode = all.every((one) => one.state === 'ready') ? 0 : 1;
    });
}

async function statusOf(
  member: ClusterFileMember & { role: string },
  dispatcher: Dispatcher,
): Promise<MemberStatus> {
  const { name, role, url, pid } = member;
  const { state, warnings } = await probeMember(member.adminUrl, dispatcher);
  const bytes =
    role === 'agent' && state === 'ready'
      ? await agentBytes(member.adminUrl, dispatcher).catch(ignoreFailure)
      : undefined;
  return { name, role, url, pid, state, warnings, bytes };
}

function statusTable(all: readonly MemberStatus[]): string {
  const table = new Table({
    head: ['member', 'pid', 'address', 'state', 'from peers', 'from origins', 'from upstream', 'from cache'],
    colAligns: ['left', 'right', 'left', 'left', 'right', 'right', 'right', 'right'],
    style: { head: [], border: [], compact: true },
  });
  for (const { name, pid, url, state, bytes } of all) {
    const cells =
      bytes === undefined
        ? ['', '', '', '']
        : [bytes.peer, bytes.origin, bytes.upstream, bytes.cache].map(bytesText);
    table.push([name, pid, url, state, ...cells]);
  }
  const bad = all.filter((one) => one.state !== 'ready').length;
  const owed = all.flatMap(({ name, warnings }) => warnings.map((one) => `${name}: ${one}\n`)).join('');
  return `${table.toString()}\n${owed}${bad === 0 ? `All ${all.length} members are ready.` : `${bad} of ${all.length} members are not ready.`}`;
}
