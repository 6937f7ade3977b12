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

t.test(
  'what is not shown is not shown again by its completion, and what came back is not taken away',
  async (t) => {
    const cache = new ContentCache(join(t.testdir(), 'content'));
    const diffId = digestOf(Buffer.from('layer'));
    await cache.repoint(diffId, '/images/whole');
    t.notOk(await cache.has(diffId));
    await cache.publish(diffId, '/run/sepia/one');
    await cache.repoint(diffId, '/images/whole');
    t.equal(readlinkSync(cache.pathOf(diffId)), '/images/whole');
    let mayGo = true;
    const going = cache.withdraw(diffId, () => mayGo);
    const back = cache.publish(diffId, '/images/whole');
    mayGo = false;
    await Promise.all([going, back, cache.withdraw(diffId, () => mayGo)]);
    t.ok(await cache.has(diffId));
  },
);
