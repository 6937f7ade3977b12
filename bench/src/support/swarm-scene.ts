import { MadeBlob, pushImage } from './blobs.ts';
import { RoleMeter } from './cpu.ts';
import { curl } from './curl.ts';
import { GIB, MIB, median, round } from './figures.ts';
import { blobUrl, checkBytes, REPOSITORY, readManifest } from './image.ts';
import { LinkedCluster } from './linked.ts';
import { startRegistry } from './loopback.ts';
import { QuietRun } from './machine.ts';
import type { BenchContext } from './run.ts';
import { type StreamShape, StreamWatch } from './streams.ts';

/** Size of the transfer that shows what one curl gets out of a link. */
const PROBE_BYTES = 64 * MIB;
const FAST_MBIT = 2_000;

/** Options of a bench of this scene: MiB in so many blobs, agents, Mbit/s of an agent's link, of the origin's and of the upstream's. */
export function sceneOptions(size: number): Readonly<Record<string, number>> {
  return { size, layers: 1, agents: 8, link: 100, hub: 400, upstream: 100 };
}

/**
 * Agents on hosts of their own, with limited links, pull one blob (or all layers of an image) at the same moment: one that the origin
 * has, then one that only the upstream has. Beside them, before, one curl on such a link: its goodput is the limit.
 */
export async function swarmScene(context: BenchContext): Promise<Record<'link' | 'warm' | 'cold', unknown>> {
  const { stops, dir } = context;
  const agents = context.number('agents');
  const probe = new MadeBlob(PROBE_BYTES);
  const layers = context.number('layers');
  const [warm, cold] = [0, 1].map(() =>
    Array.from({ length: layers }, () => new MadeBlob((context.number('size') / layers) * MIB)),
  ) as [MadeBlob[], MadeBlob[]];
  const registry = await startRegistry(stops, dir);
  await pushImage(registry.url, REPOSITORY, [probe, ...warm, ...cold]);
  const cluster = await LinkedCluster.start(stops, `${dir}/hosts`, registry, {
    agents,
    agentMbit: context.number('link'),
    hubMbit: context.number('hub'),
    registryMbit: context.number('upstream'),
  });
  const { origin, proxy } = cluster;
  for (const agent of cluster.agents) await readManifest(agent.url, agent.namespace);
  await cluster.rate(agents + 1, FAST_MBIT);
  for (const { digest } of warm) await curl(blobUrl(proxy.url, digest), { namespace: origin.namespace });
  await cluster.rate(agents + 1, context.number('upstream'));
  const probed = await curl(blobUrl(cluster.registry.url, probe.digest), {
    namespace: cluster.agents[0]!.namespace,
  });
  const bytesPerSec = probed.bytes / probed.seconds;
  context.say(`one curl: ${round((bytesPerSec * 8) / 1e6, 1)} Mbit/s`);
  return {
    link: { curlMbitPerSec: round((bytesPerSec * 8) / 1e6, 2) },
    warm: await together(context, cluster, warm, bytesPerSec),
    cold: await together(context, cluster, cold, bytesPerSec),
  };
}

/** All agents pull the same blobs at the same moment. */
async function together(
  context: BenchContext,
  cluster: LinkedCluster,
  blobs: readonly MadeBlob[],
  bytesPerSec: number,
): Promise<Record<string, unknown>> {
  const quiet = await QuietRun.begin();
  const before = await cluster.linkBytes();
  const use = new RoleMeter(cluster.members);
  const watch = new StreamWatch();
  context.stops.push('stream watch', () => watch.end());
  const transfers = await Promise.all(
    cluster.agents.map(
      async ({ url, namespace }) =>
        await Promise.all(
          blobs.map(({ digest, sizeBytes }) =>
            curl(blobUrl(url, digest), { namespace, onStart: (pid) => watch.add(pid, sizeBytes) }),
          ),
        ),
    ),
  );
  const verdict = quiet.verdict('link');
  const byRole = use.byRole();
  const streams = watch.shapes();
  const after = await cluster.linkBytes();
  const sizeBytes = blobs.reduce((sum, blob) => sum + blob.sizeBytes, 0);
  const copies = (host: number): number => round((after[host]!.up - before[host]!.up) / sizeBytes);
  const seconds = transfers
    .map((all) => Math.max(...all.map((one) => one.seconds)))
    .toSorted((a, b) => a - b);
  const limit = sizeBytes / bytesPerSec;
  const { url, namespace } = cluster.agents.at(-1)!;
  for (const { digest } of blobs) await checkBytes(url, digest, namespace);
  const deliveredGib = (sizeBytes * transfers.length) / GIB;
  const result = {
    limitSeconds: round(limit),
    lastSeconds: seconds.at(-1),
    lastOverLimit: round(seconds.at(-1)! / limit),
    firstSeconds: seconds[0],
    hubCopiesOut: copies(0),
    upstreamCopiesOut: copies(cluster.agents.length + 1),
    // Of each agent's last layer to begin.
    firstByteSeconds: transfers.map((all) => round(Math.max(...all.map((one) => one.firstByteSeconds)))),
    streams: streamFigures(streams),
    cpuSecPerGibDelivered: round((byRole['agent']!.cpuSec + byRole['origin']!.cpuSec) / deliveredGib, 2),
    byRole,
    ...verdict,
  };
  context.say(JSON.stringify(result));
  return result;
}

/** Half as a share of each stream's own time. */
function streamFigures(streams: readonly StreamShape[]): Record<string, number> {
  const halves = streams.map(({ halfAtSeconds, lastAtSeconds }) => halfAtSeconds / lastAtSeconds);
  return {
    halfAtShareMedian: round(median(halves)),
    halfAtShareWorst: round(Math.max(...halves)),
    longestSilenceSeconds: round(Math.max(...streams.map((one) => one.silenceSeconds))),
    longestSilenceAfterFirstByteSeconds: round(Math.max(...streams.map((one) => one.laterSilenceSeconds))),
  };
}
