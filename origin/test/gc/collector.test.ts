import { silentLogger } from '@sepia/base/log';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { Collector } from '../../src/gc/collector.ts';
import { Peers } from '../../src/gc/peers.ts';

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

t.test('an origin has little time to say that a sweep may begin, and much for what is long', async (t) => {
  const times = new Map<string, number>();
  const json = async (_id: string, call: { path: string; headersTimeoutMs: number }) => {
    times.set(call.path.split('?')[0]!, call.headersTimeoutMs);
    return {};
  };
  const members = { selfId: 'o1', ids: ['o1', 'o2'], epoch: 2, json };
  const peers = new Peers({ members, own: {} } as unknown as ConstructorParameters<typeof Peers>[0]);
  await peers.ready('o2');
  await peers.layerIndexes('o2', undefined);
  t.same([...times.values()], [10_000, 60_000]);
});
