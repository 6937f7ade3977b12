import { silentLogger } from '@sepia/base/log';
import { Metrics } from '@sepia/base/metrics';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { scanForever } from '../src/scan.ts';

t.test('a scan that failed is told until one is done', async (t) => {
  let isAway = true;
  const list = async () => {
    if (isAway) throw new Error('nobody answers');
    return [];
  };
  const deps = {
    cluster: { document: { conversions: [] } },
    queue: { list },
    log: silentLogger(),
    chance: () => 0.5,
    dateMs: () => 1e12,
  };
  const stopping = new AbortController();
  const scanning = scanForever(deps as unknown as Parameters<typeof scanForever>[0], 5, stopping.signal);
  const metrics = new Metrics('accelerator', 'a1');
  const saidOf = async (): Promise<string | undefined> =>
    /^sepia_pass_failed\{loop="scan".*\} (\d)$/m.exec(await metrics.registry.metrics())?.[1];
  await until(async () => (await saidOf()) === '1', 'it is told');
  isAway = false;
  await until(async () => (await saidOf()) === '0', 'one is done');
  stopping.abort(new Error('over'));
  await scanning;
  t.pass('it ends with the accelerator');
});
