import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { StartUp } from '../../src/recovery/start-up.ts';

/** A start of the only origin, whose disk takes the first `refused` writes of its standing not. */
function startAlone(refused: number) {
  let [left, generations] = [refused, 0];
  const standing = {
    standing: { handed: [], generation: 1 },
    firstStart: 'member',
    isSettled: false,
    closing: () => undefined,
    beginGeneration: async () => {
      if (left > 0) {
        left -= 1;
        throw new CodedError('DISK_FULL');
      }
      generations += 1;
      standing.isSettled = true;
    },
  };
  const deps = {
    members: { selfId: 'o1', ids: ['o1'] },
    standing,
    digests: { whole: '' },
    pull: { forgetAlone: async () => undefined },
    ring: () => ({ isOutside: false, catchUp: async () => undefined }),
    agreements: {},
    log: silentLogger(),
  };
  const startUp = new StartUp(deps as unknown as ConstructorParameters<typeof StartUp>[0]);
  const heal = (): void => {
    left = 0;
  };
  return { startUp, generations: () => generations, heal };
}

t.test('a start that failed for want of room goes on by itself', async (t) => {
  const { startUp, generations } = startAlone(2);
  startUp.start();
  await until(() => startUp.waiting === undefined, 'it counts');
  t.equal(generations(), 1);
  await startUp.stop(new CodedError('DRAINING'));
});

t.test('it says why it waits, and for whom', async (t) => {
  const { startUp, heal } = startAlone(Number.POSITIVE_INFINITY);
  startUp.start();
  await until(() => /\(/.test(startUp.waiting ?? ''), 'it says why');
  t.match(startUp.pending, /^waiting for records \(tried again after DISK_FULL: disk is full\)$/);
  heal();
  await until(() => startUp.waiting === undefined, 'it counts');
  await startUp.stop(new CodedError('DRAINING'));
});

t.test('it stops while it rests', async (t) => {
  const { startUp } = startAlone(Number.POSITIVE_INFINITY);
  startUp.start();
  await until(() => /\(/.test(startUp.waiting ?? ''), 'it rests');
  await startUp.stop(new CodedError('DRAINING'));
  t.match(startUp.waiting, /DISK_FULL/);
});
