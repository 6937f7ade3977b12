import { silentLogger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t, { type Test } from 'tap';
import { PullTimes } from '../../src/manifests/pull-times.ts';
import type { Upstreams } from '../../src/upstream/upstreams.ts';

const HOUR_MS = 3_600_000;
const NAME = { upstream: 'hub', repository: parseRepositoryName('team/app') };

/** Pull times of one registry, at whose door it is noted when something is asked for. */
function setUp(t: Test) {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const asked: string[] = [];
  let passes = 0;
  const getManifest = async ({ reference }: { reference: { tag: string } }): Promise<void> => {
    asked.push(`${reference.tag} ${time.elapsedMs / HOUR_MS}`);
  };
  const upstreams = {
    get: () => {
      passes += 1;
      return { mode: 'pull-through', 'refresh-pull-times': HOUR_MS };
    },
    client: () => ({ getManifest }),
  };
  const pullTimes = new PullTimes({
    upstreams: upstreams as unknown as Upstreams,
    log: silentLogger(),
    nowMs: Date.now,
  });
  pullTimes.start();
  return { time, pullTimes, asked, looks: () => passes };
}

t.test('what was served is asked for when it is due; in between nobody looks', async (t) => {
  const { time, pullTimes, asked, looks } = setUp(t);
  await time.pass(HOUR_MS);
  pullTimes.note(NAME, 'v1');
  await time.pass(HOUR_MS / 2);
  pullTimes.note(NAME, 'v1');
  const before = looks();
  await time.pass(HOUR_MS / 2 - 1);
  t.same(asked, []);
  t.ok(looks() - before <= 5, 'an image that is not due is not looked at each second');
  await time.pass(1);
  t.same(asked, ['v1 2'], 'an hour after it was served first');
  await time.pass(10 * HOUR_MS);
  t.equal(asked.length, 1, 'nobody asked for it since');
  pullTimes.note(NAME, 'v1');
  await time.pass(1_000);
  t.equal(asked.length, 2, 'it is due as it is served');
  await time.settle(pullTimes.stop());
});

t.test('several that are due at once are asked for one a second', async (t) => {
  const { time, pullTimes, asked } = setUp(t);
  for (const tag of ['a', 'b', 'c']) pullTimes.note(NAME, tag);
  await time.pass(1);
  for (const tag of ['a', 'b', 'c']) pullTimes.note(NAME, tag);
  await time.pass(HOUR_MS - 1);
  t.equal(asked.length, 1);
  await time.pass(1_100);
  t.equal(asked.length, 2);
  await time.pass(1_100);
  t.equal(asked.length, 3);
  await time.settle(pullTimes.stop());
});
