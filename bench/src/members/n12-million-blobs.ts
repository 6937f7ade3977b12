import type { ChildProcess } from 'node:child_process';
import { statfsSync } from 'node:fs';
import { join } from 'node:path';
import { delay } from '@sepia/base/lifecycle';
import { until } from '@sepia/test-support/until';
import type { UpMember } from '@sepia/test-support/up';
import { round } from '../support/figures.ts';
import { fillOrigin } from '../support/load/fill-origin.ts';
import { startUp } from '../support/loopback.ts';
import { cpuSeconds, peakRssMiB, QuietRun, rssMiB } from '../support/machine.ts';
import { endMember, spawnMember } from '../support/member.ts';
import { isReady } from '../support/member-metrics.ts';
import { type BenchContext, runBench } from '../support/run.ts';

const READY_MS = 600_000;
/** Files of a blob: bytes, sidecar, perhaps leaves. */
const INODES = 3;

await runBench({
  id: 'n12-million-blobs',
  claim: 'N12: origin with 1,000,000 blobs: ready ≤ 3 s after a clean stop and after kill -9; RSS ≤ 300 MiB',
  options: { blobs: 1_000_000, settle: 120 },
  run: async (context) => {
    const { stops, dir, number, say } = context;
    const blobs = number('blobs');
    const { ffree } = statfsSync(dir);
    if (ffree < blobs * INODES)
      throw new Error(`${dir} has ${ffree} inodes free, ${blobs * INODES} are needed; see SEPIA_BENCH_DIR`);
    const counts = ['origins', 'trackers', 'proxies'].flatMap((role) => [`--${role}`, '1']);
    const up = await startUp(stops, dir, [...counts, '--agents', '0']);
    const origin = up.cluster.origins[0]!;
    await up.stop();
    const empty = await startOnce(context, origin, 'SIGTERM', 0);
    const fromMs = performance.now();
    await fillOrigin({ dir: join(up.dir, 'members', origin.name), id: origin.name }, blobs, say);
    const fillSeconds = round((performance.now() - fromMs) / 1000, 1);
    // The first start finds a folder that no origin closed; it counts as no measurement.
    await startOnce(context, origin, 'SIGTERM', number('settle'));
    const afterCleanStop = await startOnce(context, origin, 'SIGKILL', number('settle'));
    const afterKill = await startOnce(context, origin, 'SIGTERM', number('settle'));
    return { blobs, fillSeconds, empty, afterCleanStop, afterKill };
  },
});

/** Starts the origin, waits until it is ready and what goes on behind the start had its time; ends it with `signal`. */
async function startOnce(
  { stops, say }: BenchContext,
  origin: UpMember,
  signal: NodeJS.Signals,
  settleSeconds: number,
): Promise<Record<string, unknown>> {
  const quiet = await QuietRun.begin();
  const fromMs = performance.now();
  const child: ChildProcess = spawnMember('origin', { config: origin.config, log: origin.log });
  stops.push('origin', () => endMember(child));
  const pid = child.pid ?? -1;
  await until(
    async () => {
      if (child.exitCode !== null) throw new Error(`the origin ended with ${child.exitCode}: ${origin.log}`);
      return await isReady(origin);
    },
    'the origin is ready',
    READY_MS,
  );
  const readySeconds = round((performance.now() - fromMs) / 1000);
  const [readyRssMiB, readyCpu] = [rssMiB(pid), cpuSeconds(pid)];
  await delay(settleSeconds * 1000);
  const result = {
    readySeconds,
    readyRssMiB,
    readyCpuSec: round(readyCpu, 2),
    laterRssMiB: rssMiB(pid),
    peakMiB: peakRssMiB(pid),
    laterCpuSec: round(cpuSeconds(pid) - readyCpu, 2),
    ...quiet.verdict('cpu'),
  };
  say(JSON.stringify(result));
  await endMember(child, signal);
  return result;
}
