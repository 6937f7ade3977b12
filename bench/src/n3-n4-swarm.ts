import { MadeBlob, pushImage } from './support/blobs.ts';
import { curl, type Transfer } from './support/curl.ts';
import { MIB, round } from './support/figures.ts';
import { blobUrl, checkBytes, REPOSITORY, readManifest } from './support/image.ts';
import { LinkedCluster } from './support/linked.ts';
import { startRegistry } from './support/loopback.ts';
import { cpuSeconds, IdleMeter, quietMachine } from './support/machine.ts';
import { type BenchContext, runBench } from './support/run.ts';

/** Size of the transfer that shows what one curl gets out of a link. */
const PROBE_BYTES = 64 * MIB;
const FAST_MBIT = 2_000;

await runBench({
  id: 'n3-n4-swarm',
  claim:
    'N3: warm origin, last ≤ 1.10 × limit, origin ≤ 1.3 copies; N4: cold, last ≤ 1.15 × limit, upstream 1.0 copies',
  options: { size: 512, agents: 8, link: 100, hub: 400, upstream: 100 },
  run: async (context) => {
    const { stops, dir } = context;
    const agents = context.number('agents');
    const [probe, warm, cold] = [PROBE_BYTES, ...Array(2).fill(context.number('size') * MIB)].map(
      (sizeBytes) => new MadeBlob(sizeBytes),
    ) as [MadeBlob, MadeBlob, MadeBlob];
    const registry = await startRegistry(stops, dir);
    await pushImage(registry.url, REPOSITORY, [probe, warm, cold]);
    const cluster = await LinkedCluster.start(stops, `${dir}/hosts`, registry, {
      agents,
      agentMbit: context.number('link'),
      hubMbit: context.number('hub'),
      registryMbit: context.number('upstream'),
    });
    const { origin, proxy } = cluster;
    for (const agent of cluster.agents) await readManifest(agent.url, agent.namespace);
    await cluster.rate(agents + 1, FAST_MBIT);
    await curl(blobUrl(proxy.url, warm.digest), { namespace: origin.namespace });
    await cluster.rate(agents + 1, context.number('upstream'));
    const probed = await curl(blobUrl(cluster.registry.url, probe.digest), {
      namespace: cluster.agents[0]!.namespace,
    });
    const bytesPerSec = probed.bytes / probed.seconds;
    context.say(`one curl: ${round((bytesPerSec * 8) / 1e6, 1)} Mbit/s`);
    const n3 = await swarm(context, cluster, warm, bytesPerSec);
    const n4 = await swarm(context, cluster, cold, bytesPerSec);
    return { curlMbitPerSec: round((bytesPerSec * 8) / 1e6, 2), n3, n4 };
  },
});

/** All agents pull one blob at the same moment. */
async function swarm(
  context: BenchContext,
  cluster: LinkedCluster,
  blob: MadeBlob,
  bytesPerSec: number,
): Promise<Record<string, unknown>> {
  const quiet = await quietMachine();
  const meter = new IdleMeter();
  const before = await cluster.linkBytes();
  const cpuBefore = cluster.members.map(({ pid }) => cpuSeconds(pid));
  const transfers: Transfer[] = await Promise.all(
    cluster.agents.map(({ url, namespace }) => curl(blobUrl(url, blob.digest), { namespace })),
  );
  const idlePercent = meter.percent();
  const after = await cluster.linkBytes();
  const cpu = cluster.members.map(({ role, pid }, index) => ({
    role,
    used: cpuSeconds(pid) - cpuBefore[index]!,
  }));
  const copies = (host: number): number => round((after[host]!.up - before[host]!.up) / blob.sizeBytes);
  const seconds = transfers.map((one) => one.seconds).toSorted((a, b) => a - b);
  const limit = blob.sizeBytes / bytesPerSec;
  await checkBytes(cluster.agents.at(-1)!.url, blob.digest, cluster.agents.at(-1)!.namespace);
  const spent = (role: string): number =>
    round(
      cpu.filter((one) => one.role === role).reduce((sum, one) => sum + one.used, 0),
      2,
    );
  const result = {
    limitSeconds: round(limit),
    lastSeconds: seconds.at(-1),
    lastOverLimit: round(seconds.at(-1)! / limit),
    firstSeconds: seconds[0],
    hubCopiesOut: copies(0),
    upstreamCopiesOut: copies(cluster.agents.length + 1),
    firstByteSeconds: transfers.map((one) => round(one.firstByteSeconds)),
    cpuSec: {
      origin: spent('origin'),
      tracker: spent('tracker'),
      proxy: spent('proxy'),
      agents: spent('agent'),
    },
    idleBeforePercent: quiet,
    idlePercent,
    valid: idlePercent >= 25,
  };
  context.say(JSON.stringify(result));
  return result;
}
