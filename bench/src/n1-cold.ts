import { join } from 'node:path';
import { MadeBlob, pushImage } from './support/blobs.ts';
import { curl } from './support/curl.ts';
import { GIB, MIB, median, round } from './support/figures.ts';
import { blobUrl, checkBytes, REPOSITORY, readManifest } from './support/image.ts';
import { LinkedCluster } from './support/linked.ts';
import { startLoopback, startRegistry } from './support/loopback.ts';
import { cpuSeconds, IdleMeter, quietMachine } from './support/machine.ts';
import { type BenchContext, runBench } from './support/run.ts';

const LINK_MBIT = 500;

await runBench({
  id: 'n1-cold',
  claim:
    'N1: cold blob, one agent, against curl from docker-registry; ≥ 0.25 on loopback, ≥ 0.95 on 500 Mbit/s',
  options: { size: GIB / MIB, rounds: 3, link: LINK_MBIT, part: 3 },
  run: async (context) => {
    const part = context.number('part');
    return {
      ...(part === 2 ? {} : { loopback: await loopback(context) }),
      ...(part === 1 ? {} : { link: await link(context) }),
    };
  },
});

/** `--part 1`: on loopback, with the CPU seconds of every member. */
async function loopback(context: BenchContext): Promise<Record<string, unknown>> {
  const { stops, dir, say } = context;
  const sizeBytes = context.number('size') * MIB;
  const registry = await startRegistry(stops, join(dir, 'loopback'));
  const blobs = Array.from({ length: context.number('rounds') }, () => new MadeBlob(sizeBytes));
  await pushImage(registry.url, REPOSITORY, blobs);
  const cluster = await startLoopback(stops, dir, registry);
  await readManifest(cluster.agent.url);
  const pids = {
    agent: cluster.agent.pid,
    origin: cluster.origin.pid,
    tracker: cluster.tracker.pid,
    proxy: cluster.proxy.pid,
    registry: registry.pid,
  };
  const rounds = [];
  for (const blob of blobs) {
    const quiet = await quietMachine();
    const meter = new IdleMeter();
    const plain = await curl(blobUrl(registry.url, blob.digest));
    const before = times(pids);
    const cold = await curl(blobUrl(cluster.agent.url, blob.digest));
    const after = times(pids);
    const perGib = Object.fromEntries(
      Object.keys(pids).map((name) => [name, round(((after[name]! - before[name]!) * GIB) / sizeBytes)]),
    );
    rounds.push({
      registrySeconds: plain.seconds,
      agentSeconds: cold.seconds,
      firstByteSeconds: cold.firstByteSeconds,
      ratio: round(plain.seconds / cold.seconds),
      cpuSecPerGib: perGib,
      agentAndOriginCpuSecPerGib: round(perGib['agent']! + perGib['origin']!),
      idleBeforePercent: quiet,
      idlePercent: meter.percent(),
    });
    await checkBytes(cluster.agent.url, blob.digest);
    say(JSON.stringify(rounds.at(-1)));
  }
  return {
    ratio: median(rounds.map((one) => one.ratio)),
    agentAndOriginCpuSecPerGib: median(rounds.map((one) => one.agentAndOriginCpuSecPerGib)),
    agentMbPerSec: round(sizeBytes / 1e6 / median(rounds.map((one) => one.agentSeconds)), 1),
    rounds,
  };
}

/** `--part 2`: registry and cluster on one host, the agent behind a link. */
async function link(context: BenchContext): Promise<Record<string, unknown>> {
  const { stops, dir, say } = context;
  const sizeBytes = context.number('size') * MIB;
  const mbit = context.number('link');
  const start = await startRegistry(stops, join(dir, 'link'));
  const blobs = Array.from({ length: Math.min(2, context.number('rounds')) }, () => new MadeBlob(sizeBytes));
  await pushImage(start.url, REPOSITORY, blobs);
  const cluster = await LinkedCluster.start(stops, join(dir, 'hosts'), start, {
    agents: 1,
    agentMbit: mbit,
    hubMbit: mbit,
  });
  const agent = cluster.agents[0]!;
  await readManifest(agent.url, agent.namespace);
  const rounds = [];
  for (const blob of blobs) {
    const quiet = await quietMachine();
    const meter = new IdleMeter();
    const plain = await curl(blobUrl(cluster.registry.url, blob.digest), { namespace: agent.namespace });
    const idlePlain = meter.percent();
    const coldMeter = new IdleMeter();
    const cold = await curl(blobUrl(agent.url, blob.digest), { namespace: agent.namespace });
    rounds.push({
      registrySeconds: plain.seconds,
      agentSeconds: cold.seconds,
      ratio: round(plain.seconds / cold.seconds),
      idleBeforePercent: quiet,
      idlePercentRegistry: idlePlain,
      idlePercentAgent: coldMeter.percent(),
    });
    await checkBytes(agent.url, blob.digest, agent.namespace);
    say(JSON.stringify(rounds.at(-1)));
  }
  return {
    linkMbit: mbit,
    ratio: median(rounds.map((one) => one.ratio)),
    valid: rounds.every((one) => one.idlePercentAgent >= 25),
    rounds,
  };
}

function times(pids: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(pids).map(([name, pid]) => [name, cpuSeconds(pid)]));
}
