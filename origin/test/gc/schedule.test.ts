import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { GcSchedule } from '../../src/gc/schedule.ts';

const EVERY_MS = 5;

/** A schedule whose clock is `nowMs`, over a record that later clocks alone replace. */
function scheduled(t: { teardown(end: () => Promise<void>): void }, lastMs: number | undefined) {
  const world = { nowMs: 1_000_000, lastMs, begun: 0, refusals: 0, looks: 0 };
  const jobSet = {
    entry: async () => {
      world.looks += 1;
      return world.lastMs === undefined ? undefined : { atMs: world.lastMs };
    },
    remove: async () => {
      world.lastMs = undefined;
    },
    put: async (_key: unknown, _value: unknown, atMs: number) => {
      world.lastMs = Math.max(world.lastMs ?? 0, atMs);
    },
  };
  const collector = {
    isRunning: false,
    begin: async () => {
      if (world.refusals > 0) {
        world.refusals -= 1;
        throw new CodedError('GC_REFUSED');
      }
      world.begun += 1;
    },
  };
  const members = { selfId: 'o1', leaderOf: () => 'o1' };
  const deps = { members, collector, records: { jobSet }, log: silentLogger(), nowMs: () => world.nowMs };
  const schedule = new GcSchedule(deps as unknown as ConstructorParameters<typeof GcSchedule>[0], {
    everyMs: EVERY_MS,
    graceMs: 1,
  });
  schedule.start();
  t.teardown(async () => await schedule.stop());
  return world;
}

t.test('a sweep begins a period after the last one, not before', async (t) => {
  const world = scheduled(t, 1_000_000);
  await until(() => world.looks > 2, 'it looked');
  t.equal(world.begun, 0);
  world.nowMs += EVERY_MS;
  await until(() => world.begun > 0, 'it begins');
  await until(() => world.looks > 5, 'it looked on');
  t.equal(world.begun, 1);
});

t.test('the first comes a period after the start', async (t) => {
  const world = scheduled(t, undefined);
  await until(() => world.lastMs === 1_000_000, 'it is noted');
  t.equal(world.begun, 0);
  world.nowMs += EVERY_MS;
  await until(() => world.begun === 1, 'it begins');
});

t.test('a clock that was set back stops no schedule', async (t) => {
  const world = scheduled(t, 900_000_000_000);
  await until(() => world.lastMs === 1_000_000, 'it is noted anew');
  t.equal(world.begun, 0, 'when the last one was is not known');
  world.nowMs += EVERY_MS;
  await until(() => world.begun === 1, 'it begins');
});

t.test('one that is refused is tried again, not a period later', async (t) => {
  const world = scheduled(t, 1);
  world.refusals = 2;
  await until(() => world.begun === 1, 'it begins');
  t.equal(world.lastMs, 1_000_000);
});
