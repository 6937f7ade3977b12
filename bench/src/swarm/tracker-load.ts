import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { MAX_NONCES, NONCE_KEEP_MS } from '@sepia/http/sign';
import { MadeBlob, pushImage } from '../support/blobs.ts';
import { RoleMeter } from '../support/cpu.ts';
import { median, percentile, round } from '../support/figures.ts';
import { REPOSITORY } from '../support/image.ts';
import { type CrowdFigures, TrackerCrowd } from '../support/load/tracker-crowd.ts';
import { startUp } from '../support/loopback.ts';
import { QuietRun } from '../support/machine.ts';
import { metricSum } from '../support/member-metrics.ts';
import { runBench } from '../support/run.ts';

/** Just too large to be one GET from an origin. */
const BLOB_BYTES = 257 * 1024;
/** The upstream of what is pushed. */
const PUSHED = 'local';

await runBench({
  id: 'tracker-load',
  claim:
    '15,000 nodes × 500 blobs at one tracker: join p99 ≤ 50 ms on one core beside the heartbeats of all, which it stretches; its nonces are not used up',
  options: { nodes: 15_000, blobs: 500, joins: 1_000, seconds: 150 },
  run: async ({ stops, dir, number, say }) => {
    const counts = ['origins', 'trackers', 'proxies'].flatMap((role) => [`--${role}`, '1']);
    const up = await startUp(stops, dir, [...counts, '--agents', '0']);
    const [tracker, origin] = [up.cluster.trackers[0]!, up.cluster.origins[0]!];
    const blobs = Array.from({ length: number('blobs') }, () => new MadeBlob(BLOB_BYTES));
    await pushImage(up.cluster.proxies[0]!.url, REPOSITORY, blobs);
    say(`${blobs.length} blobs pushed`);
    const crowd = new TrackerCrowd({
      trackerUrl: tracker.url,
      trackerId: tracker.name,
      clusterKey: Buffer.from(readFileSync(join(up.dir, 'cluster-key'), 'utf8').trim(), 'hex'),
      nodes: number('nodes'),
      blobs: blobs.map(({ digest }) => digest),
      upstream: PUSHED,
      repository: REPOSITORY,
    });
    stops.push('crowd', () => crowd.close());
    const quiet = await QuietRun.begin();
    const arriving = new RoleMeter([{ role: 'tracker', pid: tracker.pid }]);
    const fromMs = performance.now();
    await crowd.arrive();
    const arrival = { seconds: round((performance.now() - fromMs) / 1000, 1), byRole: arriving.byRole() };
    say(`arrived: ${JSON.stringify(arrival)}`);
    const use = new RoleMeter([
      { role: 'tracker', pid: tracker.pid },
      { role: 'origin', pid: origin.pid },
    ]);
    const late = monitorEventLoopDelay({ resolution: 5 });
    late.enable();
    const figures = await crowd.load(number('seconds'), number('joins'));
    late.disable();
    const byRole = use.byRole();
    return {
      arrival,
      ...told(figures, number('seconds')),
      nonces: {
        remembered: await metricSum(tracker.adminUrl, 'sepia_call_nonces'),
        room: MAX_NONCES,
        keptSeconds: NONCE_KEEP_MS / 1000,
        refusedCalls: await metricSum(tracker.adminUrl, 'sepia_calls_refused_total'),
      },
      trackerCorePercent: round((byRole['tracker']!.cpuSec * 100) / number('seconds'), 1),
      byRole,
      // Who asks has a core of its own; what it was late itself is in the times above.
      askerLateP99Ms: round(late.percentile(99) / 1e6, 1),
      ...quiet.verdict('cpu'),
    };
  },
});

function told(
  { joinMs, heartbeatMs, toldHeartbeatMs, refused }: CrowdFigures,
  seconds: number,
): Record<string, unknown> {
  const spread = (ms: readonly number[]): Record<string, number> => ({
    perSecond: round(ms.length / seconds, 1),
    p50Ms: round(median(ms), 1),
    p99Ms: round(percentile(ms, 99), 1),
    maxMs: round(
      ms.reduce((most, one) => Math.max(most, one), 0),
      1,
    ),
  });
  return { joins: spread(joinMs), heartbeats: spread(heartbeatMs), toldHeartbeatMs, refused };
}
