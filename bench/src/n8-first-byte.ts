import { MadeBlob, pushImage } from './support/blobs.ts';
import { curl } from './support/curl.ts';
import { MIB, median, round, spread } from './support/figures.ts';
import { blobUrl, REPOSITORY, readManifest } from './support/image.ts';
import { type LoopbackCluster, startLoopback, startRegistry } from './support/loopback.ts';
import { IdleMeter, quietMachine } from './support/machine.ts';
import { type BenchContext, runBench } from './support/run.ts';

const AT_ONCE = 8;

await runBench({
  id: 'n8-first-byte',
  claim:
    'N8: first byte of a big layer, origin warm; p50 ≤ 50 ms, p99 ≤ 150 ms; 8 at once: ≤ 10 % of the transfer',
  options: { size: 64, samples: 30, together: 256 },
  run: async (context) => {
    const { stops, dir } = context;
    const single = Array.from(
      { length: context.number('samples') },
      () => new MadeBlob(context.number('size') * MIB),
    );
    const together = Array.from({ length: AT_ONCE }, () => new MadeBlob(context.number('together') * MIB));
    const registry = await startRegistry(stops, dir);
    await pushImage(registry.url, REPOSITORY, [...single, ...together]);
    const cluster = await startLoopback(stops, dir, registry);
    await readManifest(cluster.agent.url);
    for (const blob of [...single, ...together]) await curl(blobUrl(cluster.proxy.url, blob.digest));
    context.say('origin is warm');
    return { oneByOne: await oneByOne(context, cluster, single), together: await atOnce(cluster, together) };
  },
});

async function oneByOne(
  context: BenchContext,
  cluster: LoopbackCluster,
  blobs: readonly MadeBlob[],
): Promise<Record<string, unknown>> {
  const quiet = await quietMachine();
  const meter = new IdleMeter();
  const agent: number[] = [];
  const registry: number[] = [];
  for (const { digest } of blobs) {
    registry.push((await curl(blobUrl(cluster.registry.url, digest))).firstByteSeconds * 1000);
    agent.push((await curl(blobUrl(cluster.agent.url, digest))).firstByteSeconds * 1000);
  }
  context.say(`one by one: p50 ${median(agent)} ms`);
  return {
    agentMs: spread(agent),
    registryMs: spread(registry),
    samples: agent.length,
    idleBeforePercent: quiet,
    idlePercent: meter.percent(),
  };
}

async function atOnce(
  cluster: LoopbackCluster,
  blobs: readonly MadeBlob[],
): Promise<Record<string, unknown>> {
  const quiet = await quietMachine();
  const meter = new IdleMeter();
  const transfers = await Promise.all(blobs.map(({ digest }) => curl(blobUrl(cluster.agent.url, digest))));
  const longest = Math.max(...transfers.map((one) => one.seconds));
  const first = transfers.map((one) => one.firstByteSeconds * 1000);
  return {
    firstByteMs: spread(first),
    transferSeconds: round(longest),
    worstShareOfOwnTransfer: round(Math.max(...transfers.map((one) => one.firstByteSeconds / one.seconds))),
    idleBeforePercent: quiet,
    idlePercent: meter.percent(),
  };
}
