import { join } from 'node:path';
import { MadeBlob, pushImage } from './support/blobs.ts';
import { CpuMeter, PROFILE_SECONDS, profile } from './support/cpu.ts';
import { curl } from './support/curl.ts';
import { MIB, median, round } from './support/figures.ts';
import { blobUrl, checkBytes, REPOSITORY, readManifest } from './support/image.ts';
import { type LoopbackCluster, startLoopback, startRegistry } from './support/loopback.ts';
import { IdleMeter, quietMachine, touchMemory } from './support/machine.ts';
import { type BenchContext, runBench } from './support/run.ts';

/** Memory that is touched before a transfer, in bytes per byte of the blob: cluster, registry and sockets. */
const TOUCHED_COPIES = 4;

await runBench({
  id: 'n17-one-agent',
  claim:
    'N17: one agent, loopback: cold 512 MiB ≤ 1.6 s, ≤ 4.5 CPU-s/GiB of agent and origin; warm 256 MiB ≤ 0.6 s, ≤ 3.0',
  options: { cold: 512, warm: 256, rounds: 3, profile: 0 },
  run: async (context) => {
    const { stops, dir } = context;
    const rounds = context.number('rounds');
    const make = (mib: number): MadeBlob[] => Array.from({ length: rounds }, () => new MadeBlob(mib * MIB));
    const cold = make(context.number('cold'));
    const warm = make(context.number('warm'));
    const registry = await startRegistry(stops, join(dir, 'upstream'));
    await pushImage(registry.url, REPOSITORY, [...cold, ...warm]);
    const cluster = await startLoopback(stops, dir, registry);
    await readManifest(cluster.agent.url);
    for (const blob of warm) await curl(blobUrl(cluster.proxy.url, blob.digest));
    return {
      cold: await measure(context, cluster, 'cold', cold),
      warm: await measure(context, cluster, 'warm', warm),
    };
  },
});

/** One blob after the other from the agent; figures are medians. With `--profile 1` where the time goes, by `perf`. */
async function measure(
  { say, number, dir }: BenchContext,
  { agent, origin, tracker, proxy, registry }: LoopbackCluster,
  scene: string,
  blobs: readonly MadeBlob[],
): Promise<Record<string, unknown>> {
  const pids = { agent: agent.pid, origin: origin.pid, tracker: tracker.pid, proxy: proxy.pid };
  const rounds = [];
  for (const [turn, blob] of blobs.entries()) {
    const idleBefore = await quietMachine();
    const plain = await curl(blobUrl(registry.url, blob.digest));
    touchMemory(dir, blob.sizeBytes * TOUCHED_COPIES);
    const idle = new IdleMeter();
    const meter = new CpuMeter(pids);
    const profiled = number('profile') > 0 && turn > 0;
    const profiling = profiled ? profile(pids, PROFILE_SECONDS) : undefined;
    const got = await curl(blobUrl(agent.url, blob.digest));
    const cpu = meter.perGib(blob.sizeBytes);
    rounds.push({
      seconds: got.seconds,
      firstByteSeconds: got.firstByteSeconds,
      registrySeconds: plain.seconds,
      cpuSecPerGib: cpu,
      agentAndOrigin: round(cpu['agent']!.all + cpu['origin']!.all, 2),
      idleBeforePercent: idleBefore,
      idlePercent: idle.percent(),
      ...(profiling === undefined ? {} : { profile: await profiling }),
    });
    await checkBytes(agent.url, blob.digest);
    say(`${scene} ${JSON.stringify(rounds.at(-1))}`);
  }
  return {
    seconds: median(rounds.map((one) => one.seconds)),
    agentAndOriginCpuSecPerGib: median(rounds.map((one) => one.agentAndOrigin)),
    rounds,
  };
}
