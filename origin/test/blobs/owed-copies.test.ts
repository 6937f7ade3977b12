import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { News } from '@sepia/base/news';
import { LogLines } from '@sepia/test-support/log-lines';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import type { Hint } from '../../src/blobs/hints.ts';
import { Replicator } from '../../src/blobs/replicator.ts';

t.test('a disk that fails once ends no later round of owed copies', async (t) => {
  const log = new LogLines('info');
  const hint: Hint = { digest: digestOf(Buffer.from('a')), target: 'gone', upstream: 'u', repository: 'r' };
  const owed = new Set([hint]);
  let asked = 0;
  const hints = {
    news: new News(),
    all: async () => {
      asked += 1;
      if (asked === 1) throw new CodedError('DISK_CORRUPT', { message: 'the disk cannot be read' });
      return [...owed];
    },
    done: async () => void owed.clear(),
  };
  const deps = {
    ...{ hints, log: log.logger },
    members: { epoch: 1, find: () => undefined },
    store: { has: async () => true },
    upstreams: { keepsPushes: () => false },
    lookAgain: async () => undefined,
  };
  const replicator = new Replicator(deps as unknown as ConstructorParameters<typeof Replicator>[0], {
    stragglerMs: 1_000,
  });
  t.teardown(async () => await replicator.stop());
  replicator.start();
  await until(() => owed.size === 0, 'what is owed is looked at again');
  t.equal(log.matching(/were not looked through/).length, 1);
});
