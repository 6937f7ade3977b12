import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import type { BlobStore } from '@sepia/store/blob-store';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { LookThrough } from '../../src/recovery/look-through.ts';

const STORE = {} as BlobStore;

t.test('what was not looked through is told, and looked through once the disk is read', async (t) => {
  let isBad = true;
  const looked: string[] = [];
  const index = {
    build: async () => {
      if (isBad) throw new CodedError('DISK_CORRUPT', { message: 'disk fails: EIO' });
      looked.push('build');
    },
    findLost: async () => looked.push('lost'),
  };
  const looking = new LookThrough({ index, store: STORE, log: silentLogger() }, { firstAgainMs: 1 });
  t.same(looking.warnings, []);
  looking.start();
  await until(() => looking.warnings.length > 0, 'it is told');
  t.match(looking.warnings, [/^under-replicated: .*DISK_CORRUPT: disk fails: EIO/]);
  t.notOk(looking.isDone);
  isBad = false;
  await until(() => looking.isDone, 'it is done');
  await until(() => looking.warnings.length === 0, 'nothing is told');
  t.same(looked, ['build', 'lost']);
  await looking.stop();
});

t.test('it stops while it rests', async (t) => {
  const index = {
    build: async () => {
      throw new Error('EACCES');
    },
    findLost: async () => 0,
  };
  const looking = new LookThrough({ index, store: STORE, log: silentLogger() });
  looking.start();
  await until(() => looking.warnings.length > 0, 'it is told');
  await looking.stop();
  t.notOk(looking.isDone);
});
