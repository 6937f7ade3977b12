import { join } from 'node:path';
import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { type Database, DataFolder } from '@sepia/store/data-folder';
import { fc } from '@sepia/test-support/property';
import t, { type Test } from 'tap';
import { RecordStore, repositoryOnDisk, tagKey } from '../../src/store/record-store.ts';

async function openDb(dir: string): Promise<Database> {
  const folder = await DataFolder.open({ log: silentLogger() }, { dir: join(dir, 'data'), id: 'o1' });
  return folder.db;
}

async function clear(db: Database): Promise<void> {
  const keys = await collect(db.keys());
  await db.write(keys.map((key) => ({ type: 'del', key })));
}

async function freshStore(t: Test): Promise<RecordStore> {
  const db = await openDb(t.testdir());
  t.teardown(() => db.close());
  return new RecordStore({ db });
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

const A = digestOf(Buffer.from('a'));
const B = digestOf(Buffer.from('b'));

t.test('links open only their own repository', async (t) => {
  const store = await freshStore(t);
  await store.mergeLink({ key: ['u', 'a/b', A], atMs: 5, value: { sizeBytes: 3, mediaType: 'm' } });
  await store.mergeLink({ key: ['u', 'a/b', B], atMs: 6, value: {} });
  t.same(await store.getLink('u', 'a/b', A), { sizeBytes: 3, mediaType: 'm' });
  t.equal(await store.getLink('u', 'a', A), undefined);
  t.equal(await store.getLink('v', 'a/b', A), undefined);
  t.same(
    (await collect(store.links('u', 'a/b'))).map(({ digest }) => digest),
    [A, B].sort(),
  );
  t.same(await collect(store.links('u', 'a')), []);
  await store.mergeLink({ key: ['u', 'a/b', A], atMs: 7, value: undefined });
  t.same(await store.linkSet.entry(['u', 'a/b', A]), { key: ['u', 'a/b', A], atMs: 7, value: undefined });
  t.equal(await store.getLink('u', 'a/b', A), undefined);
  t.notOk(await store.mergeLink({ key: ['u', 'a/b', A], atMs: 7, value: {} }));
  t.equal(await store.getLink('u', 'a/b', A), undefined, 'a tombstone wins at the same time');
  await store.mergeLink({ key: ['u', 'a/b', A], atMs: 8, value: { sizeBytes: 3 } });
  await store.mergeLink({ key: ['u', 'a/b', A], atMs: 9, value: { mediaType: 'n' } });
  t.same(await store.getLink('u', 'a/b', A), { sizeBytes: 3, mediaType: 'n' }, 'what is known stays');
  t.ok(await store.getLink('u', 'a/b', A));
  await store.close();
});

t.test('tags and repositories list in byte order, page by page', async (t) => {
  const store = await freshStore(t);
  for (const tag of ['v10', 'v1', 'v2', 'V3', 'v1-a', 'v1.a']) await store.putTag('u', 'app', tag, 1);
  await store.putTag('u', 'app2', 'other', 1);
  await store.putTag('u', 'app/sub', 'other', 1);
  const all = ['V3', 'v1', 'v1-a', 'v1.a', 'v10', 'v2'];
  t.same(await store.tags('u', 'app'), all);
  t.same(await store.tags('u', 'app', { limit: 2 }), all.slice(0, 2));
  t.same(await store.tags('u', 'app', { after: 'v1', limit: 2 }), ['v1-a', 'v1.a']);
  t.same(
    await store.tags('u', 'app', { after: 'v1-0' }),
    ['v1-a', 'v1.a', 'v10', 'v2'],
    'after a tag that is not there',
  );
  t.same(await store.tags('u', 'app', { limit: 0 }), []);
  await store.deleteTag('u', 'app', 'v1', 2);
  t.same(await store.tags('u', 'app', { limit: 2 }), ['V3', 'v1-a']);
  t.same(await store.repositories('u'), ['app', 'app/sub', 'app2']);
  t.same(await store.repositories('u', { after: 'app', limit: 1 }), ['app/sub']);
});

t.test('records survive a restart; registers too', async (t) => {
  const dir = t.testdir();
  const ballot = { counter: 1, proposer: 'p' };
  const key = tagKey('u', 'app', 'v1');
  let db = await openDb(dir);
  let store = new RecordStore({ db });
  await store.referrerSet.put(['u', 'app', A, B], { mediaType: 'm', sizeBytes: 1 }, 1);
  t.same(await store.registers.handle({ type: 'accept', key, ballot, value: { v: 1, digest: A } }), {
    type: 'accepted',
  });
  await store.close();
  await db.close();
  db = await openDb(dir);
  store = new RecordStore({ db });
  t.same(await store.referrerSet.get(['u', 'app', A, B]), { mediaType: 'm', sizeBytes: 1 });
  t.same(await store.registers.handle({ type: 'read', key }), {
    type: 'state',
    accepted: ballot,
    value: { v: 1, digest: A },
  });
  t.same(await collect(store.registers.keys()), [key]);
  t.same(await collect(store.registers.keys(`tag\0${repositoryOnDisk('u', 'app')}\0`)), [key]);
  t.same(await collect(store.registers.keys('x')), []);
  await db.close();
});

t.test('an acceptor answers racing requests one after another', async (t) => {
  const { registers } = await freshStore(t);
  const replies = await Promise.all(
    Array.from({ length: 50 }, (_, index) =>
      registers.handle({ type: 'prepare', key: 'k', ballot: { counter: (index * 17) % 50, proposer: 'p' } }),
    ),
  );
  t.equal((await registers.state('k')).promised.counter, 49);
  t.ok(replies.some(({ type }) => type === 'refused'));
});

t.test('a record of a newer version is refused by name, a damaged one too', async (t) => {
  const db = await openDb(t.testdir());
  t.teardown(() => db.close());
  const store = new RecordStore({ db });
  await db.put('r1\0k', JSON.stringify({ v: 2 }));
  await t.rejects(store.registers.handle({ type: 'read', key: 'k' }), { code: 'DISK_FORMAT' });
  await db.put('r1\0k', '{');
  await t.rejects(store.registers.handle({ type: 'read', key: 'k' }), { code: 'DISK_CORRUPT' });
  await db.put(`l1\0u\0a\0${A}`, JSON.stringify({ v: 9, atMs: 1 }));
  await t.rejects(store.getLink('u', 'a', A), { code: 'DISK_FORMAT' });
  await t.rejects(async () => store.getLink('u', 'a\0b', A), TypeError);
});

t.test('owners that merge the same entries in any order end the same', async (t) => {
  const entry = fc.record({
    key: fc.tuple(fc.constantFrom('a', 'b'), fc.constantFrom('x', 'y')),
    atMs: fc.integer({ min: 1, max: 3 }),
    value: fc.option(fc.integer({ min: 0, max: 2 }), { nil: undefined }),
  });
  const db = await openDb(t.testdir());
  t.teardown(() => db.close());
  await fc.assert(
    fc.asyncProperty(fc.array(entry, { maxLength: 8 }), fc.array(fc.nat()), async (entries, keys) => {
      await clear(db);
      const set = new RecordStore({ db }).jobSet;
      for (const one of entries) await set.merge(one);
      const first = await collect(set.entries([]));
      await clear(db);
      const shuffled = entries
        .map((one, index) => ({ one, at: keys[index] ?? 0 }))
        .sort((a, b) => a.at - b.at);
      for (const { one } of shuffled) await set.merge(one);
      return JSON.stringify(await collect(set.entries([]))) === JSON.stringify(first);
    }),
    { numRuns: 30 },
  );
});

t.test('a restored record whose clock nothing could follow is refused by name', async (t) => {
  const store = await freshStore(t);
  const digest = digestOf(Buffer.from('x'));
  const record = (atMs: number) => ({ key: `local\0team/app\0${digest}`, stored: { v: 1, atMs, value: {} } });
  const day = 24 * 3_600_000;
  for (const bad of [1e300, -1, 1_000 + day + 1])
    await t.rejects(store.dump.take('l1', record(bad), 1_000), {
      code: 'REQUEST_INVALID',
      message: /l1: .*local team\/app sha256:/,
    });
  t.equal(await store.dump.take('l1', record(1_000 + day), 1_000), true);
});

t.test('the bytes of keys on disk stay as they are', async (t) => {
  t.equal(repositoryOnDisk('harbor', 'team/app'), 'harbor/team/app');
  t.equal(tagKey('harbor', 'team/app', 'v1'), 'tag\0harbor/team/app\0v1');
});
