import { digestOf } from '@sepia/base/digest';
import { fc } from '@sepia/test-support/property';
import type { Test } from 'tap';
import { JobQueue, type Registers } from '../../src/jobs/job-queue.ts';
import { RegisterClient } from '../../src/register/register-client.ts';
import type { RecordPage } from '../../src/set/record-set.ts';
import { RecordStore, repositoryOnDisk, tagKey } from '../../src/store/record-store.ts';
import type { RecordTable, Write } from '../../src/table/record-table.ts';
import { findAnomaly, type Operation } from '../register/register-simulation.ts';
import { floorContract } from './floor-contract.ts';

/** An engine under test. */
export interface Ground {
  /** An empty table that nobody else has. */
  open(t: Test): Promise<RecordTable>;
  /** The same table once more: of another member where it is shared, else after it was closed. */
  again(t: Test, table: RecordTable): Promise<RecordTable>;
}

const A = digestOf(Buffer.from('a'));
const B = digestOf(Buffer.from('b'));
const put = (key: string, value: string): Write => ({ type: 'put', key, value });

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

async function write(table: RecordTable, ...writes: readonly Write[]): Promise<void> {
  const keys = writes.map(({ key }) => key);
  await table.change(keys, () => ({ writes, answer: undefined }));
}

/** Registers whose one acceptor is in `store`. */
function registersOf(store: RecordStore, name: string): Registers {
  const client = new RegisterClient(
    {
      transport: async (_, request) => await store.registers.handle(request),
      chance: Math.random,
      nowMs: () => performance.now(),
    },
    { proposerId: name, requestTimeoutMs: 20_000, deadlineMs: 60_000 },
  );
  return {
    read: async (key) => await client.read(key, ['all']),
    change: async (key, change) => await client.change(key, ['all'], change),
  };
}

/** What every engine of records keeps: texts and changes, and what registers, sets, tags and queues make of them. */
export async function recordsContract(t: Test, ground: Ground): Promise<void> {
  await t.test('texts', async (t) => await texts(t, ground));
  await t.test('registers', async (t) => await registers(t, ground));
  await t.test('queue', async (t) => await queue(t, ground));
  await t.test('sets', async (t) => await sets(t, ground));
  await t.test('tombstones', async (t) => await tombstones(t, ground));
  await t.test('floors', async (t) => await floorContract(t, ground));
  await t.test('beside', async (t) => await beside(t, ground));
  await t.test('forms', async (t) => await forms(t, ground));
}

async function texts(t: Test, ground: Ground): Promise<void> {
  await t.test('are ordered by the bytes of their keys, in ranges of any length', async (t) => {
    const table = await ground.open(t);
    const names = Array.from({ length: 150 }, (_, at) => `k\0${String(at).padStart(3, '0')}`);
    const odd = ['k\0é', 'k\0\u{1f600}', 'k\0\uffee', "k\0a'b\\c", 'l\0z', 'k'];
    await write(table, ...[...names, ...odd].map((key) => put(key, JSON.stringify(key))));
    const all = [...names, ...odd].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    const below = all.filter((key) => key.startsWith('k\0'));
    t.same(await collect(table.keys({ gte: 'k\0', lt: 'k\x01' })), below);
    t.same(await collect(table.entries({ gt: 'k\x00148', lte: 'l\0z' })), [
      ...below.slice(below.indexOf('k\x00148') + 1).map((key) => [key, JSON.stringify(key)]),
      ['l\0z', JSON.stringify('l\0z')],
    ]);
    t.same(await collect(table.keys({ gte: '' })), all);
    t.same(await collect(table.keys({ gte: 'm' })), []);
    for await (const key of table.keys({ gte: 'k\0' })) {
      t.equal(key, 'k\x00000', 'who stops early leaves nothing open');
      break;
    }
  });

  await t.test('are read in the order asked, and change all or none', async (t) => {
    const table = await ground.open(t);
    await write(table, put('a', '1'), put('b', '2'), put('a', '3'));
    t.same(await table.getMany(['b', 'c', 'a']), ['2', undefined, '3'], 'the last write of a key counts');
    t.equal(await table.get('c'), undefined);
    await t.rejects(
      table.change(['a', 'b'], () => {
        throw new Error('no');
      }),
      { message: 'no' },
    );
    const told: string[] = [];
    const answer = await table.change(['a', 'c'], (found) => ({
      writes: [{ type: 'del', key: 'a' }, put('c', `${found}`)],
      answer: found,
      onDurable: () => told.push('durable'),
    }));
    t.same([answer, told], [['3', undefined], ['durable']]);
    t.same(await table.getMany(['a', 'c']), [undefined, '3,']);
    await write(table, { type: 'del', key: 'a' });
    const again = await ground.again(t, table);
    t.same(await again.getMany(['a', 'b', 'c']), [undefined, '2', '3,'], 'what was acknowledged stays');
  });

  await t.test('that many change at once lose no change', async (t) => {
    const table = await ground.open(t);
    const tables = table.isShared ? [table, await ground.again(t, table)] : [table];
    const increase = async (one: RecordTable, keys: readonly string[]): Promise<void> =>
      await one.change(keys, (found) => ({
        writes: keys.map((key, at) => put(key, String(Number(found[at] ?? 0) + 1))),
        answer: undefined,
      }));
    const works = tables.flatMap((one) =>
      Array.from(
        { length: 30 },
        async (_, at) => await increase(one, at % 2 === 0 ? ['x', 'y'] : ['y', 'x']),
      ),
    );
    await Promise.all(works);
    const total = String(tables.length * 30);
    t.same(await table.getMany(['x', 'y']), [total, total]);
    const foreign = await table.change(['x'], (found) => ({ writes: [], answer: found[0] }));
    t.equal(foreign, total, 'a change that writes nothing reads the newest');
  });
}

async function registers(t: Test, ground: Ground): Promise<void> {
  await t.test('have a linearizable history', async (t) => {
    const table = await ground.open(t);
    const store = new RecordStore({ table });
    const stores = table.isShared
      ? [store, new RecordStore({ table: await ground.again(t, table) }), store]
      : [store, store, store];
    const history: Operation[] = [];
    await Promise.all(
      stores.map(async (one, index) => {
        const client = String.fromCharCode(97 + index);
        const values = registersOf(one, client);
        for (let turn = 0; turn < 8; turn++) {
          const appended = `${client}${turn}`;
          const isRead = turn % 4 === 3;
          const operation: Operation = {
            client,
            beganAt: performance.now(),
            endedAt: Number.POSITIVE_INFINITY,
            ...(isRead ? {} : { appended }),
          };
          history.push(operation);
          operation.list =
            (isRead
              ? await values.read<string[]>('list')
              : await values.change<string[]>('list', (list = []) => [...list, appended])) ?? [];
          operation.endedAt = performance.now();
        }
      }),
    );
    t.equal(findAnomaly(history), undefined);
    t.equal((await registersOf(store, 'last').read<string[]>('list'))?.length, 18);
  });

  await t.test('make a change once that is handed to several, and answer one after another', async (t) => {
    const store = new RecordStore({ table: await ground.open(t) });
    const clientOf = (proposerId: string): RegisterClient =>
      new RegisterClient(
        {
          transport: async (_, request) => await store.registers.handle(request),
          chance: Math.random,
          nowMs: () => performance.now(),
        },
        { proposerId, requestTimeoutMs: 20_000, deadlineMs: 60_000 },
      );
    const fn = (count = 0): number => count + 1;
    const made = ['p', 'q', 'p'].map(
      async (name) => await clientOf(name).change<number>('k', ['all'], fn, { id: 'one' }),
    );
    t.same(await Promise.all(made), [1, 1, 1]);
    const replies = await Promise.all(
      Array.from({ length: 50 }, async (_, index) => {
        const ballot = { counter: 1_000 + ((index * 17) % 50), proposer: 'p' };
        return await store.registers.handle({ type: 'prepare', key: 'k', ballot });
      }),
    );
    t.equal((await store.registers.state('k')).promised.counter, 1_049);
    t.ok(replies.some(({ type }) => type === 'refused'));
  });

  await t.test('survive, and list by their keys', async (t) => {
    const table = await ground.open(t);
    const ballot = { counter: 1, proposer: 'p' };
    const key = tagKey('u', 'app', 'v1');
    const store = new RecordStore({ table });
    await store.referrerSet.put(['u', 'app', A, B], { mediaType: 'm', sizeBytes: 1 }, 1);
    const told: unknown[] = [];
    store.onRecord((space, name, before) => told.push([space, name, before]));
    const accept = { type: 'accept', key, ballot, value: { v: 1, digest: A } } as const;
    t.same(await store.registers.handle(accept), { type: 'accepted' });
    t.same(await store.registers.handle(accept), { type: 'accepted' });
    t.same(told, [['r1', key, undefined]], 'who listens hears of what changed, once');
    await store.close();
    const again = new RecordStore({ table: await ground.again(t, table) });
    t.same(await again.referrerSet.get(['u', 'app', A, B]), { mediaType: 'm', sizeBytes: 1 });
    t.same(await again.registers.handle({ type: 'read', key }), {
      type: 'state',
      accepted: ballot,
      value: { v: 1, digest: A },
    });
    t.same(await collect(again.registers.keys()), [key]);
    t.same(await collect(again.registers.keys(`tag\0${repositoryOnDisk('u', 'app')}\0`)), [key]);
    t.same(await collect(again.registers.keys('x')), []);
  });
}

async function queue(t: Test, ground: Ground): Promise<void> {
  await t.test('gives each job to one holder, and again when that one is gone', async (t) => {
    const table = await ground.open(t);
    const other = table.isShared ? await ground.again(t, table) : table;
    let nowMs = 1_000;
    const queueOf = (one: RecordTable, name: string): JobQueue<{ n: number }> =>
      new JobQueue(
        {
          registers: registersOf(new RecordStore({ table: one }), name),
          nowMs: () => nowMs,
          chance: Math.random,
        },
        { name: 'test', retry: { firstMs: 100, maxMs: 1_000, tries: 2 } },
      );
    const [p, q] = [queueOf(table, 'p'), queueOf(other, 'q')];
    await Promise.all(
      Array.from({ length: 12 }, async (_, n) => await (n % 2 === 0 ? p : q).add(`k${n}`, { n })),
    );
    t.notOk((await q.add('k0', { n: 0 })).isNew);
    const taken = (await Promise.all([p.take('p', 6), q.take('q', 6)])).flat();
    t.equal(new Set(taken.map(({ id }) => id)).size, taken.length, 'nobody else has it');
    for (const { id, holder } of taken) if (holder === 'p') await p.finish(id, 'p', {});
    nowMs += 3_600_000;
    const left = await q.take('q', 12);
    const done = taken.filter(({ holder }) => holder === 'p').length;
    t.equal(left.length, 12 - done, 'what its holder did not end is given again');
    for (const { id } of left) await q.finish(id, 'q', {});
    t.equal((await p.list()).filter(({ state }) => state === 'done').length, 12);
  });
}

async function sets(t: Test, ground: Ground): Promise<void> {
  await t.test('of links open only their own repository', async (t) => {
    const store = new RecordStore({ table: await ground.open(t) });
    await store.mergeLink({ key: ['u', 'a/b', A], atMs: 5, value: { sizeBytes: 3, mediaType: 'm' } });
    await store.mergeLink({ key: ['u', 'a/b', B], atMs: 6, value: {} });
    t.same(await store.linkSet.get(['u', 'a/b', A]), { sizeBytes: 3, mediaType: 'm' });
    t.equal(await store.linkSet.get(['u', 'a', A]), undefined);
    t.equal(await store.linkSet.get(['v', 'a/b', A]), undefined);
    const digests = (await collect(store.linkSet.list(['u', 'a/b']))).map(({ key }) => key[2]);
    t.same(digests, [A, B].sort());
    t.same(await collect(store.linkSet.list(['u', 'a'])), []);
    await store.mergeLink({ key: ['u', 'a/b', A], atMs: 7, value: undefined });
    t.same(await store.linkSet.entry(['u', 'a/b', A]), { key: ['u', 'a/b', A], atMs: 7, value: undefined });
    t.equal(await store.linkSet.get(['u', 'a/b', A]), undefined);
    t.notOk(await store.mergeLink({ key: ['u', 'a/b', A], atMs: 7, value: {} }));
    t.equal(await store.linkSet.get(['u', 'a/b', A]), undefined, 'a tombstone wins at the same time');
    await store.mergeLink({ key: ['u', 'a/b', A], atMs: 8, value: { sizeBytes: 3 } });
    await store.mergeLink({ key: ['u', 'a/b', A], atMs: 9, value: { mediaType: 'n' } });
    t.same(await store.linkSet.get(['u', 'a/b', A]), { sizeBytes: 3, mediaType: 'n' }, 'what is known stays');
    await store.close();
  });

  await t.test('of tags and repositories list in byte order, page by page', async (t) => {
    const store = new RecordStore({ table: await ground.open(t) });
    const { tagSet } = store;
    const tags = async (page?: RecordPage) =>
      (await collect(tagSet.list(['u', 'app'], page))).map(({ key }) => key[2]);
    for (const tag of ['v10', 'v1', 'v2', 'V3', 'v1-a', 'v1.a'])
      await tagSet.put(['u', 'app', tag], { atMs: 1 }, 1);
    for (const name of ['app2', 'app/sub']) await tagSet.put(['u', name, 'other'], { atMs: 1 }, 1);
    const all = ['V3', 'v1', 'v1-a', 'v1.a', 'v10', 'v2'];
    t.same(await tags(), all);
    t.same(await tags({ limit: 2 }), all.slice(0, 2));
    t.same(await tags({ after: 'v1', limit: 2 }), ['v1-a', 'v1.a']);
    t.same(await tags({ after: 'v1-0' }), ['v1-a', 'v1.a', 'v10', 'v2'], 'after a tag that is not there');
    t.same(await tags({ limit: 0 }), []);
    await tagSet.delete(['u', 'app', 'v1'], 2);
    t.same(await tags({ limit: 2 }), ['V3', 'v1-a']);
    for (const name of ['app', 'app2', 'app/sub'])
      await store.mergeLink({ key: ['u', name, A], atMs: 1, value: {} });
    t.same(await store.repositories('u'), ['app', 'app/sub', 'app2']);
    t.same(await store.repositories('u', { after: 'app', limit: 1 }), ['app/sub']);
    const page = await store.dump.page('t1', undefined, 3);
    t.same([page.entries.length, page.more], [3, true]);
    const rest = await store.dump.page('t1', page.entries.at(-1)!.key, 100);
    t.same([rest.entries.length, rest.more], [5, false]);
  });

  await t.test('end the same, whatever the order in which owners merge', async (t) => {
    const entry = fc.record({
      key: fc.tuple(fc.constantFrom('a', 'b'), fc.constantFrom('x', 'y')),
      atMs: fc.integer({ min: 1, max: 3 }),
      value: fc.option(fc.integer({ min: 0, max: 2 }), { nil: undefined }),
    });
    const set = new RecordStore({ table: await ground.open(t) }).jobSet;
    let rounds = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(entry, { maxLength: 8 }), fc.array(fc.nat()), async (entries, keys) => {
        const shuffled = entries
          .map((one, index) => ({ one, at: keys[index] ?? 0 }))
          .sort((a, b) => a.at - b.at)
          .map(({ one }) => one);
        const ends: string[] = [];
        for (const order of [entries, shuffled]) {
          const round = `${rounds++}`;
          for (const one of order) await set.merge({ ...one, key: [round, ...one.key] });
          const found = await collect(set.entries([round]));
          ends.push(JSON.stringify(found.map(({ key, ...rest }) => ({ key: key.slice(1), ...rest }))));
        }
        return ends[0] === ends[1];
      }),
      { numRuns: 30 },
    );
  });
}

async function tombstones(t: Test, ground: Ground): Promise<void> {
  await t.test('are merged, forgotten only as they are, removed whole', async (t) => {
    const { jobSet } = new RecordStore({ table: await ground.open(t) });
    await jobSet.mergeAll([
      { key: ['q', 'a'], atMs: 1, value: { n: 1 } },
      { key: ['q', 'a'], atMs: 2, value: undefined },
      { key: ['q', 'b'], atMs: 1, value: { n: 2 } },
    ]);
    t.same(await jobSet.entry(['q', 'a']), { key: ['q', 'a'], atMs: 2, value: undefined });
    t.notOk(await jobSet.put(['q', 'a'], { n: 9 }, 1), 'an older value does not come back');
    await jobSet.forget(['q', 'a'], 1);
    await jobSet.forget(['q', 'b'], 1);
    t.same((await collect(jobSet.entries(['q']))).length, 2);
    await jobSet.forget(['q', 'a'], 2);
    await jobSet.remove(['q', 'b'], ['q', 'c']);
    t.same(await collect(jobSet.entries(['q'])), []);
  });
}

async function beside(t: Test, ground: Ground): Promise<void> {
  await t.test('keys that are read beside others are found behind them, and may change', async (t) => {
    const table = await ground.open(t);
    await write(table, put('f', '1'), put('k', '2'));
    const read = async (...names: string[]) =>
      await table.change(
        ['k', 'none'],
        (found) => ({ writes: [put('none', JSON.stringify(found))], answer: found }),
        names,
      );
    t.same(await read('f', 'g'), ['2', undefined, '1', undefined]);
    t.equal(await table.get('none'), '["2",null,"1",null]');
    await write(table, put('g', '3'));
    t.same(await read('g', 'f'), ['2', '["2",null,"1",null]', '3', '1']);
  });
}

async function forms(t: Test, ground: Ground): Promise<void> {
  await t.test('of a newer version are refused by name, damaged ones too', async (t) => {
    const table = await ground.open(t);
    const store = new RecordStore({ table });
    await write(table, put('r1\0k', JSON.stringify({ v: 2 })));
    const later = { code: 'DISK_FORMAT', message: /has form 2, .* reads 1: start the version that wrote it/ };
    await t.rejects(store.registers.handle({ type: 'read', key: 'k' }), later);
    await write(table, put('r1\0k', '{'), put(`l1\0u\0a\0${A}`, JSON.stringify({ v: 9, atMs: 1 })));
    await t.rejects(store.registers.handle({ type: 'read', key: 'k' }), { code: 'DISK_CORRUPT' });
    await t.rejects(store.linkSet.get(['u', 'a', A]), { code: 'DISK_FORMAT' });
    await t.rejects(async () => await store.linkSet.get(['u', 'a\0b', A]), TypeError);
  });

  await t.test('whose clock nothing could follow are refused by name at a restore', async (t) => {
    const store = new RecordStore({ table: await ground.open(t) });
    const record = (atMs: number) => ({ key: `local\0team/app\0${A}`, stored: { v: 1, atMs, value: {} } });
    const day = 24 * 3_600_000;
    for (const bad of [1e300, -1, 1_000 + day + 1])
      await t.rejects(store.dump.take('l1', record(bad), 1_000), {
        code: 'REQUEST_INVALID',
        message: /l1: .*local team\/app sha256:/,
      });
    t.equal(await store.dump.take('l1', record(1_000 + day), 1_000), true);
  });
}
