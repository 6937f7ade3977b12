import { delay } from '@sepia/base/lifecycle';
import type { Up } from '@sepia/test-support/up';
import { round } from '../support/figures.ts';
import { startRegistry, startUp } from '../support/loopback.ts';
import { cpuSeconds, QuietRun, rssMiB } from '../support/machine.ts';
import { makeImage, Side } from '../support/push-side.ts';
import { type BenchContext, runBench } from '../support/run.ts';

/** Pushes at once, and KiB of a blob. */
const AT_ONCE = 8;
const BLOB_BYTES = 1024;

await runBench({
  id: 'n19-idle',
  claim:
    'N19: an idle member takes ≤ 0.2 % CPU and ≤ 95 MiB, fresh and after a history; an idle docker-registry beside it',
  options: { seconds: 60, settle: 60, pushes: 3_000 },
  run: async (context) => {
    const { stops, dir, number, say } = context;
    const registry = await startRegistry(stops, dir);
    const counts = ['origins', 'trackers', 'proxies', 'agents'].flatMap((role) => [`--${role}`, '1']);
    const up = await startUp(stops, dir, counts);
    const fresh = await idle(context, up, registry.pid);
    const side = new Side(up.cluster.proxies[0]!.url, [], AT_ONCE);
    stops.push('connections', () => side.close());
    await side.pushAll(Array.from({ length: number('pushes') }, (_, at) => makeImage(at, BLOB_BYTES)));
    say(`${number('pushes')} images pushed`);
    return { fresh, afterHistory: await idle(context, up, registry.pid), pushes: number('pushes') };
  },
});

/** Percent of one core and MiB of every member while nobody asks for anything. */
async function idle(
  { number, say }: BenchContext,
  { cluster }: Up,
  registryPid: number,
): Promise<Record<string, unknown>> {
  const { origins, trackers, proxies, agents } = cluster;
  const pids = Object.fromEntries(
    [...origins, ...trackers, ...proxies, ...agents].map(({ name, pid }) => [name, pid]),
  );
  const all: Record<string, number> = { ...pids, registry: registryPid };
  await delay(number('settle') * 1000);
  const quiet = await QuietRun.begin();
  const before = Object.values(all).map(cpuSeconds);
  const fromMs = performance.now();
  await delay(number('seconds') * 1000);
  const seconds = (performance.now() - fromMs) / 1000;
  const members = Object.fromEntries(
    Object.entries(all).map(([name, pid], at) => [
      name,
      { cpuPercent: round(((cpuSeconds(pid) - before[at]!) * 100) / seconds, 2), rssMiB: rssMiB(pid) },
    ]),
  );
  const result = { members, seconds: round(seconds, 1), ...quiet.verdict('cpu') };
  say(JSON.stringify(result));
  return result;
}
