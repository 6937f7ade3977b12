import { mkdirSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { freePort, must } from '@sepia/test-support/testbed';
import { MadeBlob, pushImage } from './support/blobs.ts';
import { curl } from './support/curl.ts';
import { GIB, MIB, median, round } from './support/figures.ts';
import { blobUrl, checkBytes, REPOSITORY, readManifest } from './support/image.ts';
import { startLoopback, startRegistry } from './support/loopback.ts';
import { cpuSeconds, IdleMeter, quietMachine } from './support/machine.ts';
import { type BenchContext, runBench } from './support/run.ts';

await runBench({
  id: 'n2-warm',
  claim:
    'N2: warm blob from the agent on loopback, every leaf checked; ≥ 0.4 × docker-registry; nginx beside it',
  options: { size: GIB / MIB, rounds: 7 },
  run: async (context) => {
    const { stops, dir } = context;
    const blob = new MadeBlob(context.number('size') * MIB);
    const registry = await startRegistry(stops, dir);
    await pushImage(registry.url, REPOSITORY, [blob]);
    const { agent } = await startLoopback(stops, dir, registry);
    await readManifest(agent.url);
    const nginx = await startNginx(context, blob);
    const urls = {
      agent: blobUrl(agent.url, blob.digest),
      registry: blobUrl(registry.url, blob.digest),
      nginx,
    };
    for (const url of Object.values(urls)) await curl(url);
    await checkBytes(agent.url, blob.digest);
    const results = await measure(context, urls, agent.pid, blob.sizeBytes);
    await checkBytes(agent.url, blob.digest);
    return results;
  },
});

async function measure(
  context: BenchContext,
  urls: Readonly<Record<'agent' | 'registry' | 'nginx', string>>,
  agentPid: number,
  sizeBytes: number,
): Promise<Record<string, unknown>> {
  const seconds = { agent: [] as number[], registry: [] as number[], nginx: [] as number[] };
  const idle: number[] = [];
  const cpu: number[] = [];
  for (let index = 0; index < context.number('rounds'); index++) {
    const quiet = await quietMachine(80, 30_000);
    const meter = new IdleMeter();
    const before = cpuSeconds(agentPid);
    seconds.agent.push((await curl(urls.agent)).seconds);
    cpu.push(((cpuSeconds(agentPid) - before) * GIB) / sizeBytes);
    idle.push(meter.percent());
    seconds.registry.push((await curl(urls.registry)).seconds);
    seconds.nginx.push((await curl(urls.nginx)).seconds);
    context.say(
      `agent ${seconds.agent.at(-1)} registry ${seconds.registry.at(-1)} nginx ${seconds.nginx.at(-1)} s, idle before ${quiet} %`,
    );
  }
  const middle = {
    agent: median(seconds.agent),
    registry: median(seconds.registry),
    nginx: median(seconds.nginx),
  };
  const gbPerSec = (one: number): number => round(sizeBytes / 1e9 / one);
  return {
    ratioToRegistry: round(middle.registry / middle.agent),
    agentGbPerSec: gbPerSec(middle.agent),
    registryGbPerSec: gbPerSec(middle.registry),
    nginxGbPerSec: gbPerSec(middle.nginx),
    agentCpuSecPerGib: round(median(cpu)),
    idlePercentWhileAgent: idle,
    seconds,
  };
}

/** nginx with sendfile over one file; answers its address. */
async function startNginx({ stops, dir }: BenchContext, blob: MadeBlob): Promise<string> {
  const root = join(dir, 'nginx');
  mkdirSync(root);
  const file = await open(join(root, 'blob'), 'w');
  for (const part of blob.parts()) await file.write(part);
  await file.close();
  const port = await freePort();
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map((name) => `${name}_temp_path ${root}/tmp;`)
    .join(' ');
  writeFileSync(
    join(root, 'nginx.conf'),
    `user root; worker_processes 1; pid ${root}/pid; error_log ${root}/error.log;
events {}
http { access_log off; sendfile on; ${temporary} server { listen 127.0.0.1:${port}; root ${root}; } }
`,
  );
  const args = ['-p', root, '-c', join(root, 'nginx.conf'), '-e', join(root, 'error.log')];
  await must('nginx', args);
  stops.push('nginx', async () => {
    await must('nginx', [...args, '-s', 'quit']);
  });
  return `http://127.0.0.1:${port}/blob`;
}
