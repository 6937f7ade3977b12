import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { quietly, testbed } from '@sepia/test-support/testbed';
import { RoleMeter } from '../support/cpu.ts';
import { curl } from '../support/curl.ts';
import { GIB, MIB, round } from '../support/figures.ts';
import type { FloorNode } from '../support/load/floor-node.ts';
import { QuietRun, touchMemory } from '../support/machine.ts';
import { type BenchContext, runBench } from '../support/run.ts';
import { sceneOptions } from '../support/swarm-scene.ts';

const PREFIX = 'sb';
const PORT = 17_001;
const CLIENT_PORT = 17_000;
const PROGRAM = join(import.meta.dirname, '../support/load/floor-node.ts');

await runBench({
  id: 'n16-floor',
  claim:
    'What N16 costs this machine without Sepia: plain Node on the same hosts moves, hashes, writes and hands on as many bytes; CPU-s per GiB delivered',
  options: { ...sceneOptions(256), 'at-once': 8, hash: 1, write: 1 },
  run,
});

/** Each agent's host gets the same share from every other and from the hub, so one copy leaves the hub in all. */
async function run(context: BenchContext): Promise<Record<string, unknown>> {
  const agents = context.number('agents');
  const shareBytes = Math.ceil(context.number('size') / agents) * MIB;
  process.env['PREFIX'] = PREFIX;
  const rates = ['--rate', String(context.number('link')), '--origin-rate', String(context.number('hub'))];
  await testbed('netns.sh', ['up', String(agents + 1), ...rates]);
  context.stops.push('namespaces', () => quietly('netns.sh', ['down']));
  const hosts = Array.from({ length: agents + 1 }, (_, host) => host);
  const addresses = await Promise.all(hosts.map((host) => addressOf(host)));
  const members: { role: string; pid: number }[] = [];
  for (const host of hosts) {
    const node: FloorNode = {
      address: addresses[host]!,
      port: PORT,
      sources: host === 0 ? [] : [...addresses.slice(host + 1), ...addresses.slice(0, host)],
      shareBytes,
      atOnce: context.number('at-once'),
      file: join(context.dir, `host-${host}`),
      clientPort: CLIENT_PORT,
      isHashed: context.number('hash') > 0,
      isWritten: context.number('write') > 0,
    };
    const child = await startNode(host, node);
    context.stops.push(`host ${host}`, async () => {
      child.stdin?.end();
      await once(child, 'exit');
    });
    members.push({ role: host === 0 ? 'origin' : 'agent', pid: child.pid! });
  }
  const sizeBytes = agents * shareBytes;
  touchMemory(context.dir, 2 * agents * sizeBytes);
  const quiet = await QuietRun.begin();
  const use = new RoleMeter(members);
  const transfers = await Promise.all(
    hosts.slice(1).map((host) => curl(`http://127.0.0.1:${CLIENT_PORT}/`, { namespace: `${PREFIX}${host}` })),
  );
  const verdict = quiet.verdict('link');
  const byRole = use.byRole();
  const used = byRole['agent']!.cpuSec + byRole['origin']!.cpuSec;
  return {
    lastSeconds: Math.max(...transfers.map(({ seconds }) => seconds)),
    cpuSecPerGibDelivered: round((used * GIB) / (sizeBytes * agents), 2),
    byRole,
    ...verdict,
  };
}

async function startNode(host: number, node: FloorNode): Promise<ChildProcess> {
  const args = [`--net=/run/netns/${PREFIX}${host}`, '--', process.execPath, PROGRAM, JSON.stringify(node)];
  const child = spawn('nsenter', args, { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  return child;
}

async function addressOf(host: number): Promise<string> {
  return (await testbed('netns.sh', ['addr', String(host)])).stdout.trim();
}
