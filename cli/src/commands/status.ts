import { ignoreFailure } from '@sepia/base/failure';
import { createDispatcher, type Dispatcher } from '@sepia/http/sockets';
import type { Command } from 'commander';
import { LOCAL_CONNECT_MS } from '../deadlines.ts';
import { agentBytes } from '../demo/agent-bytes.ts';
import { type MemberStatus, statusText } from '../operator/status-view.ts';
import {
  type ClusterFileMember,
  membersOf,
  readClusterFile,
  USUAL_CLUSTER_FILE,
} from '../up/cluster-file.ts';
import { probeMember } from '../up/readiness.ts';

/** `sepia status`: exit 0 only if every member is ready. */
export function addStatus(program: Command): void {
  program
    .command('status')
    .description('show the state of every member of a cluster')
    .option('--cluster <file>', 'its cluster.json', USUAL_CLUSTER_FILE)
    .option('--json', 'print JSON', false)
    .action(async (flags: { cluster: string; json: boolean }) => {
      const cluster = readClusterFile(flags.cluster);
      const dispatcher = createDispatcher({ connectTimeoutMs: LOCAL_CONNECT_MS });
      const all = await Promise.all(membersOf(cluster).map((member) => statusOf(member, dispatcher)));
      await dispatcher.close();
      process.stdout.write(flags.json ? `${JSON.stringify({ members: all })}\n` : `${statusText(all)}\n`);
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
