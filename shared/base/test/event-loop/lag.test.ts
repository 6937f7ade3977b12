import { readFileSync } from 'node:fs';
import { delay } from '@sepia/base/lifecycle';
import { Metrics } from '@sepia/base/metrics';
import t from 'tap';
import { restMs } from '../../src/event-loop/lag.ts';

const names = ['min', 'max', 'mean', 'stddev', 'p50', 'p90', 'p99'].map(
  (figure) => `nodejs_eventloop_lag_${figure}_seconds`,
);

t.test('a process that was held up says so, once', async (t) => {
  const metrics = new Metrics('test', 'test-1');
  await delay(300);
  const untilMs = performance.now() + 1_200;
  while (performance.now() < untilMs);
  await delay(1);
  const held = await figuresOf(metrics);
  t.same(Object.keys(held), names, 'every figure is there once');
  t.ok(held['nodejs_eventloop_lag_max_seconds']! >= 0.2, 'a timer that was due came late');
  t.ok(held['nodejs_eventloop_lag_min_seconds']! <= held['nodejs_eventloop_lag_max_seconds']!);
  const after = await figuresOf(metrics);
  const max = 'nodejs_eventloop_lag_max_seconds';
  t.ok(after[max]! < held[max]!, 'a scrape begins anew');
});

t.test('a process that does nothing is looked at ever more seldom, one that works often', async (t) => {
  const rests = [250];
  for (let look = 0; look < 6; look++) rests.push(restMs(rests.at(-1)!, 0.004));
  t.same(rests, [250, 500, 1_000, 2_000, 4_000, 4_000, 4_000]);
  t.equal(restMs(4_000, 0.05), 250, 'one that works again');
});

t.test('a process that does nothing is not woken a hundred times a second for it', async (t) => {
  const metrics = new Metrics('test', 'test-2');
  const before = wakeUps();
  await delay(2_000);
  t.ok(wakeUps() - before < 100, `woken ${wakeUps() - before} times in two seconds`);
  t.ok((await metrics.registry.metrics()).includes('nodejs_heap_size_total_bytes'), "Node's own are there");
});

/** How often the main thread went to sleep by itself. */
function wakeUps(): number {
  const status = readFileSync(`/proc/self/task/${process.pid}/status`, 'utf8');
  return Number(/^voluntary_ctxt_switches:\s*(\d+)/m.exec(status)?.[1]);
}

async function figuresOf(metrics: Metrics): Promise<Record<string, number>> {
  const lines = (await metrics.registry.metrics()).split('\n');
  return Object.fromEntries(
    lines.flatMap((line) => {
      const [, name, value] = /^(nodejs_eventloop_lag_\w+_seconds)\{[^}]*\} (\S+)$/.exec(line) ?? [];
      return name === undefined ? [] : [[name, Number(value)]];
    }),
  );
}
