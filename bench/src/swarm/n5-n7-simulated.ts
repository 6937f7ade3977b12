import { spawn } from 'node:child_process';
import { throwIfBug } from '@sepia/base/failure';
import { GIB, MIB, round } from '../support/figures.ts';
import { cpuSeconds, peakRssMiB, QuietRun } from '../support/machine.ts';
import { SEPIA } from '../support/member.ts';
import { type BenchContext, runBench } from '../support/run.ts';

const LOOK_MS = 200;
/** The whole scenes, and how long N7 lets them take, in seconds. */
const SCENES = {
  n5: { nodes: 2_600, bytes: 3_000_000_000, withinSeconds: 300 },
  n6: { nodes: 15_000, bytes: 1_000_000_000, withinSeconds: 1_200 },
} as const;

await runBench({
  id: 'n5-n7-simulated',
  claim:
    "N5, N6: the simulator's rows of a part of each scene, Kraken's policy beside ours; N7: its time and memory (N5 whole ≤ 5 min, N6 ≤ 20 min, ≤ 8 GiB). --whole 1 runs both whole",
  options: { n5nodes: 100, n6nodes: 200, size: 64, seed: 1, whole: 0 },
  run: async (context) => ({ n5: await simulated(context, 'n5'), n6: await simulated(context, 'n6') }),
});

/** One scene as `sepia simulate --json` tells it, with what the process took. */
async function simulated(
  { number, say, stops }: BenchContext,
  scene: keyof typeof SCENES,
): Promise<Record<string, unknown>> {
  const { nodes: allNodes, bytes: allBytes, withinSeconds } = SCENES[scene];
  const isWhole = number('whole') > 0;
  const nodes = isWhole ? allNodes : number(`${scene}nodes`);
  const size = isWhole ? [] : ['--nodes', String(nodes), '--blob', `${number('size')}MiB`];
  const quiet = await QuietRun.begin();
  const fromMs = performance.now();
  const child = spawn(
    process.execPath,
    [SEPIA, 'simulate', scene, ...size, '--seed', String(number('seed')), '--json'],
    // With its thread pool set, `sepia` runs in this process itself, which is looked at.
    { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, UV_THREADPOOL_SIZE: '16' } },
  );
  stops.push(scene, () => {
    child.kill('SIGKILL');
  });
  const used = watch(child.pid ?? -1);
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    text += part;
  });
  const code = await new Promise<number | null>((settle, reject) => {
    child.once('error', reject);
    child.once('close', settle);
  });
  const seconds = (performance.now() - fromMs) / 1000;
  const { cpu, peakMiB } = used.stop();
  if (code !== 0) throw new Error(`sepia simulate ${scene} ended with ${code}: ${text}`);
  const { rows } = JSON.parse(text) as { rows: readonly { row: string; wallMs: number }[] };
  const nodeMiB = nodes * (isWhole ? allBytes / MIB : number('size'));
  const ours = rows.find(({ row }) => row === 'policy')!;
  const result = {
    nodes,
    rows,
    seconds: round(seconds, 1),
    cpuSec: round(cpu, 1),
    peakGib: round((peakMiB * MIB) / GIB),
    policyMsPerNodeMiB: round(ours.wallMs / nodeMiB),
    // By the node and MiB, as if nothing grew faster than these.
    wholeWouldTakeSeconds: Math.round((ours.wallMs / 1000 / nodeMiB) * allNodes * (allBytes / MIB)),
    wholeMayTakeSeconds: withinSeconds,
    ...quiet.verdict('cpu'),
  };
  say(JSON.stringify(result));
  return result;
}

/** CPU and memory of a process while it lives: the last figures that were seen. */
function watch(pid: number): { stop(): { cpu: number; peakMiB: number } } {
  let seen = { cpu: 0, peakMiB: 0 };
  const timer = setInterval(() => {
    try {
      seen = { cpu: cpuSeconds(pid), peakMiB: Math.max(seen.peakMiB, peakRssMiB(pid)) };
    } catch (error) {
      // It ended between two looks.
      throwIfBug(error);
    }
  }, LOOK_MS);
  return {
    stop: () => {
      clearInterval(timer);
      return seen;
    },
  };
}
