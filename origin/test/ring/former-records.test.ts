import { join } from 'node:path';
import { silentLogger } from '@sepia/base/log';
import type { Sender } from '@sepia/records/core/standing';
import { RecordStore, tagKey } from '@sepia/records/store/record-store';
import { LevelTable } from '@sepia/records/table/level-table';
import { DataFolder } from '@sepia/store/data-folder';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { RecordPages } from '../../src/recovery/record-pages.ts';
import { FormerRecords } from '../../src/ring/former-records.ts';
import { startCluster } from '../support/cluster.ts';
import { faultsOf, type Pushed, untilNothingOwed } from '../support/images.ts';
import { change, memberOf, pushSome, RING_CONFIG, untilEpoch } from '../support/ring.ts';

const OWNERS = ['o2', 'o3', 'o4'];
const DIGEST = `sha256:${'1'.repeat(64)}` as const;
const LINK = ['local', 'team/moved', DIGEST];
const REGISTER = tagKey('local', 'team/moved', 'v1');

/** An origin with records of a repository of its own, and of one that belongs to `OWNERS` since epoch 2. */
async function world(t: Test) {
  const open = new AsyncDisposableStack();
  const stores = new Map<string, { records: RecordStore; pages: RecordPages }>();
  const digests = {
    bucketOf: (_space: string, key: string) => ({
      owners: key.includes('team/own') ? ['o1', 'o2', 'o3'] : OWNERS,
      name: 'one',
    }),
  };
  const dir = t.testdir(Object.fromEntries(['o1', ...OWNERS].map((id) => [id, {}])));
  for (const id of ['o1', ...OWNERS]) {
    const folder = open.use(await DataFolder.open({ log: silentLogger() }, { dir: join(dir, id), id }));
    const records = new RecordStore({ table: new LevelTable({ db: folder.db }) });
    open.defer(async () => await records.close());
    const pages = new RecordPages({ db: folder.db, records, digests, selfId: id });
    stores.set(id, { records, pages });
  }
  const made = {
    epoch: 2,
    isSettled: true,
    nowMs: 0,
    silent: new Set<string>(),
    known: {} as Sender['known'],
    asked: 0,
    onAsked: async (): Promise<void> => undefined,
  };
  const { records, pages } = stores.get('o1')!;
  const former = new FormerRecords({
    members: {
      selfId: 'o1',
      get epoch() {
        return made.epoch;
      },
      isSuspect: (id: string) => made.silent.has(id),
      counted: async (id: string, { json }: { json: never }) => {
        made.asked += 1;
        const { space, records: some } = json as { space: 'l1'; records: [] };
        const covered = await stores.get(id)!.pages.covers(space, some);
        await made.onAsked();
        return { sender: { id, generation: 1, known: made.known }, answer: { covered } };
      },
    } as never,
    standing: {
      get isSettled() {
        return made.isSettled;
      },
      get standing() {
        return { epoch: made.epoch } as never;
      },
      sender: { id: 'o1', generation: 1, known: {} },
    },
    pages,
    isShared: false,
    log: silentLogger(),
    nowMs: () => made.nowMs,
  });
  const tidy = async (): Promise<number | undefined> => {
    made.nowMs += 10_000_000;
    await former.tidy(new AbortController().signal);
    return former.count;
  };
  const owners = OWNERS.map((id) => stores.get(id)!.records);
  return { made, records, owners, tidy, [Symbol.asyncDispose]: async () => await open.disposeAsync() };
}

const accept = (counter: number, value: unknown) =>
  ({ type: 'accept', key: REGISTER, ballot: { counter, proposer: 'p' }, value }) as const;

t.test('a record goes once all of its owners have it or something later', async (t) => {
  await using w = await world(t);
  const { records, owners, tidy, made } = w;
  await records.linkSet.put(['local', 'team/own', DIGEST], {}, 5);
  await records.linkSet.put(LINK, {}, 5);
  await records.registers.handle(accept(3, 'v'));
  await records.registers.handle({
    type: 'prepare',
    key: `${REGISTER}x`,
    ballot: { counter: 1, proposer: 'p' },
  });
  t.equal(await tidy(), 2, 'a promise alone goes; the owners have nothing of the rest');
  await owners[0]!.linkSet.put(LINK, {}, 5);
  await owners[1]!.linkSet.put(LINK, {}, 9);
  for (const one of owners) await one.registers.handle(accept(4, 'w'));
  t.equal(await tidy(), 1, 'one owner lacks the link');
  t.ok(await records.linkSet.has(LINK));
  t.equal((await records.registers.state(REGISTER)).accepted.counter, 0, 'the tag is gone');
  await owners[2]!.linkSet.delete(LINK, 4);
  t.equal(await tidy(), 1, 'what one has is older');
  await owners[2]!.linkSet.delete(LINK, 7);
  t.equal(await tidy(), 0);
  t.notOk(await records.linkSet.has(LINK));
  t.ok(await records.linkSet.has(['local', 'team/own', DIGEST]), 'its own stay');
  const { asked } = made;
  t.equal(await tidy(), 0);
  t.equal(made.asked, asked, 'nobody is asked again under this membership');
});

t.test('who does not count drops nothing, and says how much it has', async (t) => {
  await using w = await world(t);
  const { made, records, owners, tidy } = w;
  for (const one of [records, ...owners]) await one.linkSet.put(LINK, {}, 5);
  made.isSettled = false;
  t.equal(await tidy(), 1, 'a rule on the number sees it');
  t.equal(made.asked, 0);
  t.ok(await records.linkSet.has(LINK));
  made.isSettled = true;
  t.equal(await tidy(), 0, 'once it counts it goes');
});

t.test('nothing goes while an owner is silent, or is another folder by now', async (t) => {
  await using w = await world(t);
  const { made, records, owners, tidy } = w;
  for (const one of [records, ...owners]) await one.linkSet.put(LINK, {}, 5);
  made.silent.add('o3');
  t.equal(await tidy(), 1);
  made.silent.clear();
  made.known = { o4: 2 };
  t.equal(await tidy(), 1, 'another owner knows a newer generation of it');
  made.known = {};
  t.equal(await tidy(), 0);
});

t.test('nothing goes that this origin owns again, or that changed meanwhile', async (t) => {
  await using w = await world(t);
  const { made, records, owners, tidy } = w;
  for (const one of [records, ...owners]) await one.linkSet.put(LINK, {}, 5);
  made.onAsked = async () => {
    made.epoch = 3;
  };
  t.equal(await tidy(), undefined);
  t.ok(await records.linkSet.has(LINK), 'the ring changes again');
  made.epoch = 4;
  made.onAsked = async () => {
    await records.linkSet.put(LINK, { pushed: true }, 6);
  };
  t.equal(await tidy(), 1);
  t.same(await records.linkSet.get(LINK), { pushed: true });
  made.epoch = 0;
  t.equal(await tidy(), 0, 'under the first membership nothing ever moved');
});

t.test(
  'there and back: what moved away is gone from who had it, and comes back as it is by then',
  async (t) => {
    const c = await startCluster(t, { origins: 6, ring: 3, config: RING_CONFIG });
    const pushed = new Map<string, Map<string, Pushed>>();
    await pushSome(c, 'o1', pushed, 4, 'v1');
    const added = ['o4', 'o5', 'o6'];
    for (const id of added) await c.start(id);
    await change(c, 'o2', 0, { action: 'add', members: added.map((id) => memberOf(c, id)) });
    await untilEpoch(c, 2);
    const former = async (id: string): Promise<number | undefined> => {
      const answer = await c.get(id, '/v1/ring/status');
      return (JSON.parse(answer.bytes.toString()) as { formerRecords?: number }).formerRecords;
    };
    const untilGone = async (ids: readonly string[]): Promise<void> => {
      for (const id of ids) await until(async () => (await former(id)) === 0, `${id} dropped them`, 90_000);
    };
    await untilGone(c.ids);
    for (const [repository, tags] of pushed) t.same(await faultsOf(c, repository, tags), [], repository);
    await pushSome(c, 'o4', pushed, 4, 'v1');
    await change(c, 'o1', 2, { action: 'drain', ids: added });
    await untilEpoch(c, 4);
    await untilGone(c.ids);
    const three = { ...c, ids: c.ids.slice(0, 3) };
    await untilNothingOwed(three);
    for (const [repository, tags] of pushed) t.same(await faultsOf(three, repository, tags), [], repository);
    for (const id of added) {
      await c.stop(id);
      await using folder = await DataFolder.open({ log: silentLogger() }, { dir: c.dataOf(id), id });
      const left: string[] = [];
      for await (const key of folder.db.keys({ gte: 'f1', lt: 'r2' }))
        if (/^(r1|l1|f1|p1)/.test(key)) left.push(key);
      t.same(left, [], `${id} keeps no record of a repository`);
    }
  },
);
