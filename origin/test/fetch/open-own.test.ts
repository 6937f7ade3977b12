import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { Metainfo } from '@sepia/metainfo/metainfo';
import type { BlobStore } from '@sepia/store/blob-store';
import t from 'tap';
import { openOwn } from '../../src/fetch/fetch-parts.ts';

const DIGEST = digestOf(Buffer.from('x'));
const NAME = { digest: DIGEST, upstream: 'hub', repository: parseRepositoryName('app') };

t.test('a partial that cannot take an attempt over is let go', async (t) => {
  let isHeld = false;
  const full = new CodedError('DISK_FULL');
  const partial = {
    learn: async () => {
      throw full;
    },
    release: async () => {
      isHeld = false;
    },
  };
  const store = {
    openPartial: async () => {
      isHeld = true;
      return partial;
    },
  } as unknown as BlobStore;
  const adopt = Metainfo.open(DIGEST, 1_000_000, '1'.repeat(32));
  await t.rejects(openOwn(store, NAME, 1_000_000, adopt), full);
  t.notOk(isHeld);
  t.equal(await openOwn(store, NAME, 1_000_000, undefined), partial);
  t.ok(isHeld);
});
