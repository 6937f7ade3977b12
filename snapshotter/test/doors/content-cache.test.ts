import { readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { digestOf } from '@sepia/base/digest';
import t from 'tap';
import { ContentCache } from '../../src/doors/content-cache.ts';

t.test('entries are links where containerd looks, replaced and taken away whole', async (t) => {
  const dir = join(t.testdir(), 'content');
  const cache = new ContentCache(dir);
  t.same(await cache.list(), []);
  const diffId = digestOf(Buffer.from('layer'));
  const hex = diffId.slice(7);
  const path = join(dir, 'sha256', hex.slice(0, 2), `${hex}.erofs`);
  await cache.publish(diffId, '/run/sepia/one');
  t.equal(readlinkSync(path), '/run/sepia/one');
  await cache.publish(diffId, '/run/sepia/two');
  t.same(await cache.list(), [{ diffId, path, target: '/run/sepia/two' }]);
  t.ok(await cache.has(diffId));
  t.notOk(await cache.has(digestOf(Buffer.from('another'))));
  await cache.withdraw(diffId);
  await cache.withdraw(diffId);
  t.same(await cache.list(), []);
});
