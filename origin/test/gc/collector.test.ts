import { silentLogger } from '@sepia/base/log';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { Collector } from '../../src/gc/collector.ts';

t.test('origins that owe copies are waited for by no clock that may be set', async (t) => {
  let [elapsedMs, asked] = [0, 0];
  // Somebody sets the clock an hour ahead each time that it is read.
  let dateMs = 1e12;
  const deps = {
    cluster: { version: 1, members: () => [], membership: { epoch: 2 }, epoch: 2 },
    selfId: 'o1',
    peers: {
      ids: ['o1'],
      ready: async () => {
        asked += 1;
        return { clusterVersion: 1, owed: 3 };
      },
    },
    log: silentLogger(),
    nowMs: () => (dateMs += 3_600_000),
    elapsedMs: () => elapsedMs,
  };
  const collector = new Collector(deps as unknown as ConstructorParameters<typeof Collector>[0]);
  t.teardown(() => collector.stop());
  const begun = t.rejects(collector.begin({ dryRun: true, graceMs: 0 }), { code: 'GC_REFUSED' });
  await until(() => asked >= 2, 'it is asked again');
  elapsedMs = 31_000;
  await begun;
});
