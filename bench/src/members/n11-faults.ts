import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { delay, StopStack } from '@sepia/base/lifecycle';
import { until } from '@sepia/test-support/until';
import type { Up, UpMember } from '@sepia/test-support/up';
import { MadeBlob, pushImage } from '../support/blobs.ts';
import { curl } from '../support/curl.ts';
import { MIB, median, percentile, round } from '../support/figures.ts';
import { blobUrl, REPOSITORY, readManifest } from '../support/image.ts';
import { SlowLink } from '../support/link.ts';
import { startRegistry, startUp } from '../support/loopback.ts';
import { QuietRun } from '../support/machine.ts';
import { isReady, upstreamBytes } from '../support/member-metrics.ts';
import type { BenchRegistry } from '../support/registry.ts';
import { type BenchContext, runBench } from '../support/run.ts';

const SIGNALS = ['SIGKILL', 'SIGSTOP'] as const;
const VICTIMS = ['peer', 'tracker', 'origin', 'proxy'] as const;
/** The victim is hit after this share of a calm pull's time. */
const MIDDLE = 0.4;
const BACK_MS = 60_000;

interface Scene {
  readonly up: Up;
  readonly registry: BenchRegistry;
  readonly blobBytes: number;
}

await runBench({
  id: 'n11-faults',
  claim:
    'N11: a peer, tracker, origin or proxy killed / stopped in mid-pull adds ≤ 0.3 s / ≤ 1.5 s, p95 of 20; each beside a calm pull right before',
  options: { rounds: 20, size: 32, megabytes: 16 },
  run: async (context) => {
    const { stops, dir, number } = context;
    const registry = await startRegistry(stops, dir);
    const link = await SlowLink.start(registry.port, { megabytes: number('megabytes'), delayMs: 2 });
    stops.push('link', () => link.stop());
    const quiet = await QuietRun.begin();
    const added: Record<string, unknown> = {};
    for (const signal of SIGNALS)
      for (const victim of VICTIMS) {
        const folder = join(dir, `${signal}-${victim}`);
        const seconds = await faults(context, folder, { registry, port: link.port, victim, signal });
        // Each blob is in five places.
        rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
        added[`${signal} ${victim}`] = {
          p50: round(median(seconds)),
          p95: round(percentile(seconds, 95)),
          max: round(Math.max(...seconds)),
        };
        context.say(`${signal} of ${victim}: ${JSON.stringify(added[`${signal} ${victim}`])}`);
      }
    return { addedSeconds: added, pulls: number('rounds'), ...quiet.verdict('link') };
  },
});

/** Seconds that each of so many faults of a kind added, in a cluster of their own. */
async function faults(
  context: BenchContext,
  folder: string,
  kind: {
    readonly registry: BenchRegistry;
    readonly port: number;
    readonly victim: (typeof VICTIMS)[number];
    readonly signal: (typeof SIGNALS)[number];
  },
): Promise<number[]> {
  const { registry, port, victim, signal } = kind;
  const { number } = context;
  const counts = ['--origins', '3', '--trackers', '2', '--proxies', '2', '--agents', '3', '--restart'];
  const stops = new StopStack();
  context.stops.push('cluster of these faults', () => stops.stop());
  try {
    const up = await startUp(stops, folder, [...counts, '--upstream', `bench=http://127.0.0.1:${port}`]);
    const scene = { up, registry, blobBytes: number('size') * MIB };
    await pullNew(scene);
    const seconds: number[] = [];
    for (let round = 0; round < number('rounds'); round++)
      seconds.push(await oneFault(scene, victim, signal));
    return seconds;
  } finally {
    await stops.stop();
  }
}

/** Seconds that a fault added to the slower of two pulls of one cold blob, against a calm pull right before. */
async function oneFault(
  scene: Scene,
  victim: (typeof VICTIMS)[number],
  signal: (typeof SIGNALS)[number],
): Promise<number> {
  const calm = await pullNew(scene);
  const { up } = scene;
  let hit: { readonly member: UpMember; readonly pid: number } | undefined;
  const seconds = await pullNew(scene, async (before) => {
    await delay(calm * MIDDLE * 1000);
    const member = up.member((await chosen(up, victim, before)).name);
    hit = { member, pid: member.pid };
    process.kill(member.pid, signal);
  });
  if (hit === undefined) throw new Error(`${victim} was not hit: the pull took ${seconds} s`);
  if (signal === 'SIGSTOP') process.kill(hit.pid, 'SIGCONT');
  else await up.back(hit.member, hit.pid);
  const { member } = hit;
  await until(async () => await isReady(member), `${member.name} is ready again`, BACK_MS);
  return seconds - calm;
}

/** Seconds of the slower of two agents that pull a blob which nobody has; the third pulls too, and may be hit. */
async function pullNew(
  { up, registry, blobBytes }: Scene,
  meanwhile?: (upstreamBefore: readonly number[]) => Promise<void>,
): Promise<number> {
  const blob = new MadeBlob(blobBytes);
  await pushImage(registry.url, REPOSITORY, [blob]);
  const { agents, origins } = up.cluster;
  for (const agent of agents) await readManifest(agent.url);
  const before = await Promise.all(origins.map(upstreamBytes));
  const aborted = new AbortController();
  const other = curl(blobUrl(agents[2]!.url, blob.digest), { signal: aborted.signal }).catch(
    // Its agent may be the one that is hit: curl ends with an error then.
    (error: unknown) => error,
  );
  const pulls = agents
    .slice(0, 2)
    .map(async ({ url }) => (await curl(blobUrl(url, blob.digest), { maxSeconds: 120 })).seconds);
  const [all] = await Promise.all([Promise.all(pulls), meanwhile?.(before)]);
  aborted.abort();
  await other;
  return Math.max(...all);
}

/** The origin is the one that fetches the blob from the upstream right now. */
async function chosen(
  { cluster }: Up,
  victim: (typeof VICTIMS)[number],
  before: readonly number[],
): Promise<UpMember> {
  const { agents, trackers, proxies, origins } = cluster;
  if (victim === 'peer') return agents[2]!;
  if (victim === 'tracker') return trackers[0]!;
  if (victim === 'proxy') return proxies[0]!;
  const growth = (await Promise.all(origins.map(upstreamBytes))).map((bytes, at) => bytes - before[at]!);
  return origins[growth.indexOf(Math.max(...growth))]!;
}
