import { join } from 'node:path';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { type Link, RecordStore } from '@sepia/records/store/record-store';
import { LevelTable } from '@sepia/records/table/level-table';
import { DataFolder } from '@sepia/store/data-folder';
import { until } from '@sepia/test-support/until';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t from 'tap';
import type { Members } from '../../src/cluster/members.ts';
import { QUICK_MS } from '../../src/deadlines/members.ts';
import { askCounted, writeToOwners } from '../../src/records/ask-counted.ts';
import { Links } from '../../src/records/links.ts';
import { QuorumSet } from '../../src/records/quorum-set.ts';
import { RidingWrite } from '../../src/records/riding-write.ts';

const IDS = ['a', 'b', 'c'];
const SHARD = { epoch: 0, sets: [IDS] };
const sender = (id: string, known: Record<string, number> = {}) => ({ id, generation: 1, known });

t.test('silence of some is no hindrance, of most it is', async (t) => {
  const ask = (dead: readonly string[]) => async (id: string) => {
    if (dead.includes(id)) throw new CodedError('PEER_HTTP');
    return { sender: sender(id), answer: id };
  };
  t.same(await askCounted(SHARD, ask(['b'])), { answers: ['a', 'c'], isEnough: true, silent: ['b'] });
  t.same(await askCounted(SHARD, ask(['b', 'c'])), { answers: ['a'], isEnough: false, silent: ['b', 'c'] });
  const write = (dead: readonly string[]) => async (id: string) => {
    if (dead.includes(id)) throw new CodedError('PEER_HTTP');
    return sender(id);
  };
  await writeToOwners(SHARD, write(['b']));
  await t.rejects(writeToOwners(SHARD, write(['b', 'c'])), { code: 'QUORUM_LOST' });
});

t.test('no more are asked than are enough, in the order given, while they answer', async (t) => {
  const asked: string[] = [];
  const ask = async (id: string) => {
    asked.push(id);
    return { sender: sender(id), answer: id };
  };
  const found = await askCounted(SHARD, ask, undefined, undefined, ['c', 'a', 'b']);
  t.same(found.answers, ['c', 'a']);
  t.same(asked, ['c', 'a']);
  t.equal((await askCounted(SHARD, ask, undefined, () => false)).isEnough, false);
  t.same(asked.slice(2), IDS);
});

t.test('what an older generation says does not count', async (t) => {
  const known: Record<string, Record<string, number>> = { a: { b: 2 } };
  const ask = async (id: string) => {
    if (id === 'c') throw new CodedError('PEER_HTTP');
    return { sender: sender(id, known[id]), answer: id };
  };
  t.same(await askCounted(SHARD, ask), { answers: ['a'], isEnough: false, silent: ['c'] });
  await t.rejects(
    writeToOwners(SHARD, async (id) => (await ask(id)).sender),
    { code: 'QUORUM_LOST' },
  );
});

t.test('in a ring change old and new owners must answer', async (t) => {
  const joint = { epoch: 1, sets: [IDS, ['d', 'e', 'f']] };
  const write = (dead: readonly string[]) => async (id: string) => {
    if (dead.includes(id)) throw new CodedError('PEER_HTTP');
    return sender(id);
  };
  await writeToOwners(joint, write(['a', 'd']));
  await t.rejects(writeToOwners(joint, write(['d', 'e'])), { code: 'QUORUM_LOST' });
});

t.test('a bug is thrown, it is no silent owner', async (t) => {
  const wrong = async (id: string): Promise<never> => {
    throw new TypeError(`wrong code for ${id}`);
  };
  await t.rejects(askCounted(SHARD, wrong), TypeError);
  await t.rejects(
    askCounted(
      SHARD,
      async (id) => ({ sender: sender(id), answer: 1 }),
      () => {
        throw new RangeError('wrong rule');
      },
      () => false,
    ),
    RangeError,
  );
  await t.rejects(writeToOwners(SHARD, wrong), TypeError);
});

t.test('a write that a later record hides in part is made again under a later clock', async (t) => {
  await using folder = await DataFolder.open({ log: silentLogger() }, { dir: t.testdir(), id: 'a' });
  const records = new RecordStore({ table: new LevelTable({ db: folder.db }) });
  const members = {
    selfId: 'a',
    isSuspect: () => false,
    shard: () => ({ epoch: 0, sets: [['a']] }),
  } as unknown as Members;
  const standing = {
    require: () => undefined,
    sender: sender('a'),
    within: async <T>(_epoch: number, work: () => Promise<T>): Promise<T> => await work(),
  };
  let nowMs = 100;
  const deps = { members, standing, own: records.linkSet, nowMs: () => nowMs, byField: true };
  const set = new QuorumSet<Link>('links', deps);
  const shard = { upstream: 'u', repository: 'r' };
  const key = ['k'];
  await set.write(shard, [{ key, value: { sizeBytes: 1 } }]);
  nowMs = 50;
  await set.write(shard, [{ key, value: { sizeBytes: 2, mediaType: 'x' } }]);
  t.same((await set.read(shard, key))?.value, { sizeBytes: 2, mediaType: 'x' }, 'its size was hidden');
  nowMs = 70;
  await set.write(shard, [{ key }]);
  t.equal((await set.read(shard, key))?.value, undefined, 'its clock is news, the value stood');
  await records.close();
});

interface Owner {
  /** Records that others sent it. */
  readonly sent: { readonly atMs: number }[];
  readonly set: QuorumSet<Link>;
  readonly own: RecordStore['linkSet'];
  readonly floors: RecordStore['floors'];
}

const REPOSITORY = { upstream: 'u', repository: 'r' };
const FULL_KEY = ['u', 'r', 'k'];

/** Three owners of the repository; `pauseMs`: before each message arrives. */
async function owners(
  dir: string,
  stack: AsyncDisposableStack,
  { nowMs, pauseMs = () => 0 }: { nowMs: () => number; pauseMs?: () => number },
): Promise<ReadonlyMap<string, Owner>> {
  const found = new Map<string, Owner>();
  for (const id of IDS) {
    const folder = stack.use(await DataFolder.open({ log: silentLogger() }, { dir: join(dir, id), id }));
    const records = new RecordStore({ table: new LevelTable({ db: folder.db }) });
    stack.defer(async () => await records.close());
    const members = {
      ...{ selfId: id, epoch: 0, news: async () => undefined, shard: () => SHARD },
      isSuspect: () => false,
      counted: async (other: string, call: { path: string; json?: { records: never[] } }) => {
        await new Promise((resolve) => setTimeout(resolve, pauseMs()));
        const owner = found.get(other)!;
        if (call.json === undefined) {
          const key = JSON.parse(new URL(call.path, 'http://origin').searchParams.get('key')!) as string[];
          return { sender: sender(other), answer: await owner.set.here.own(REPOSITORY, key) };
        }
        owner.sent.push(...call.json.records);
        return { sender: sender(other), answer: await owner.set.here.putOwn(REPOSITORY, call.json.records) };
      },
    } as unknown as Members;
    const standing = {
      require: () => undefined,
      sender: sender(id),
      within: async <T>(_epoch: number, work: () => Promise<T>): Promise<T> => await work(),
    };
    const own = records.linkSet;
    found.set(id, {
      sent: [],
      own,
      floors: records.floors,
      set: new QuorumSet<Link>('links', { members, standing, own, nowMs, byField: true }),
    });
  }
  return found;
}

t.test('a delete is not done where only one owner has it under a later clock', async (t) => {
  await using stack = new AsyncDisposableStack();
  const all = await owners(t.testdir(), stack, { nowMs: () => 11 });
  const of = (id: string): Owner => all.get(id)!;
  // A value that was acknowledged by a and b, then a delete under a later clock that reached b alone.
  for (const id of ['a', 'b'])
    await of(id).own.mergeAll([{ key: FULL_KEY, atMs: 14, value: { sizeBytes: 1 } }]);
  await of('b').own.mergeAll([{ key: FULL_KEY, atMs: 15, value: undefined }]);
  t.same(await of('b').set.here.putOwn(REPOSITORY, [{ key: ['k'], atMs: 11 }]), { aheadMs: 15 });
  await of('c').set.write(REPOSITORY, [{ key: ['k'] }]);
  const told = await Promise.all(IDS.map(async (id) => (await of(id).own.entry(FULL_KEY))?.value));
  t.equal((await of('c').set.read(REPOSITORY, ['k']))?.value, undefined, 'whoever is asked');
  t.ok(
    told.filter((value) => value === undefined).length >= 2,
    'two have the delete, under a clock that wins',
  );
  const [one, other] = await Promise.all([of('a').own.entry(FULL_KEY), of('c').own.entry(FULL_KEY)]);
  t.ok(Math.max(one?.value === undefined ? (one?.atMs ?? 0) : 0, other?.atMs ?? 0) >= 15);
});

t.test('many who write the same at once agree on a clock', async (t) => {
  let clockMs = 1_000;
  let turn = 0;
  await using stack = new AsyncDisposableStack();
  const all = await owners(t.testdir(), stack, {
    nowMs: () => (clockMs += 1),
    pauseMs: () => (turn++ * 7) % 13,
  });
  const writers = Array.from({ length: 24 }, (_, index) => all.get(IDS[index % 3]!)!.set);
  for (let round = 0; round < 5; round++) {
    const value = { sizeBytes: round };
    await Promise.all(writers.map((set) => set.write(REPOSITORY, [{ key: ['k'], value }])));
    t.same((await writers[0]!.read(REPOSITORY, ['k']))?.value, value);
  }
});

t.test('who took a record that rode to it is not asked again', async (t) => {
  let clockMs = 100;
  await using stack = new AsyncDisposableStack();
  const all = await owners(t.testdir(), stack, { nowMs: () => (clockMs += 1) });
  const of = (id: string): Owner => all.get(id)!;
  const value = { sizeBytes: 1 };
  const riding = of('a').set.ride(REPOSITORY, [{ key: ['k'], value }]);
  t.same([riding.mayRide('b', 0), riding.mayRide('b', 1), riding.mayRide('x', 0)], [true, false, false]);
  const take = async (id: string) => ({
    sender: sender(id),
    answer: await of(id).set.here.putOwn(REPOSITORY, [{ key: ['k'], atMs: riding.atMs, value }]),
  });
  riding.sent('b', take('b'));
  riding.sent('c', Promise.resolve(undefined));
  t.equal(riding.mayRide('b', 0), false, 'it is on its way');
  await of('a').set.write(REPOSITORY, [{ key: ['k'], value }], riding);
  const told = async () => await Promise.all(IDS.map(async (id) => await of(id).own.entry(FULL_KEY)));
  await until(async () => (await told()).every((one) => one !== undefined), 'all get it');
  t.same([of('b').sent.length, of('c').sent[0]!.atMs], [0, riding.atMs]);
  for (const one of await told()) t.match(one, { atMs: riding.atMs, value });
});

t.test('a record that rode to owners with a later tombstone is written under a later clock', async (t) => {
  let clockMs = 100;
  await using stack = new AsyncDisposableStack();
  const all = await owners(t.testdir(), stack, { nowMs: () => (clockMs += 1) });
  const of = (id: string): Owner => all.get(id)!;
  const value = { sizeBytes: 1 };
  const riding = of('a').set.ride(REPOSITORY, [{ key: ['k'], value }]);
  await of('b').set.write(REPOSITORY, [{ key: ['k'] }]);
  // A majority had it when it was acknowledged, perhaps with `a`.
  for (const id of ['b', 'c'])
    await until(async () => (await of(id).own.entry(FULL_KEY)) !== undefined, `${id} has the tombstone`);
  for (const id of ['b', 'c']) {
    const answer = await of(id).set.here.putOwn(REPOSITORY, [{ key: ['k'], atMs: riding.atMs, value }]);
    t.ok(answer.behindMs! > riding.atMs, 'it is told so');
    riding.sent(id, Promise.resolve({ sender: sender(id), answer }));
  }
  await of('a').set.write(REPOSITORY, [{ key: ['k'], value }], riding);
  t.same((await of('c').set.read(REPOSITORY, ['k']))?.value, value);
});

t.test('a record that rode under another membership is written as if it had not', async (t) => {
  await using stack = new AsyncDisposableStack();
  const all = await owners(t.testdir(), stack, { nowMs: () => 7 });
  const value = { sizeBytes: 1 };
  const riding = new RidingWrite<Link>(5, [{ key: ['k'], value }], { epoch: 3, sets: [IDS] });
  riding.sent('b', Promise.resolve({ sender: sender('b'), answer: {} }));
  await all.get('a')!.set.write(REPOSITORY, [{ key: ['k'], value }], riding);
  await until(async () => (await all.get('b')!.own.entry(FULL_KEY)) !== undefined, 'it is sent');
  t.equal((await all.get('b')!.own.entry(FULL_KEY))?.atMs, 7);
});

t.test('an owner that says nothing to a record that rides is sent it', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const riding = new RidingWrite<Link>(5, [{ key: ['k'] }], SHARD);
  riding.sent('b', new Promise(() => undefined));
  t.equal(await time.settle(riding.answerOf('b')), undefined);
  t.equal(time.elapsedMs, QUICK_MS);
});

t.test('what was seen elsewhere stands in the way of nothing that is written later', async (t) => {
  await using stack = new AsyncDisposableStack();
  let nowMs = 10;
  const all = await owners(t.testdir(), stack, { nowMs: () => nowMs });
  const { set } = all.get('a')!;
  // Of a quorum: the owner itself may be the last one to have it.
  const read = async (key: string): Promise<unknown> => (await set.read(REPOSITORY, [key]))?.value;
  for (const key of ['gone', 'went']) await set.write(REPOSITORY, [{ key: [key], value: { sizeBytes: 1 } }]);
  await set.write(REPOSITORY, [{ key: ['gone'] }]);
  nowMs = 30;
  await set.write(REPOSITORY, [{ key: ['went'] }]);
  const seen = ['gone', 'went', 'new'].map((key) => ({ key: [key], value: { sizeBytes: 2 } }));
  await set.writeSeen(REPOSITORY, seen, 20);
  t.same(await read('gone'), { sizeBytes: 2 }, 'it was deleted before');
  t.equal(await read('went'), undefined, 'it was deleted since');
  t.same(await read('new'), { sizeBytes: 2 });
  nowMs = 40;
  await set.write(REPOSITORY, [{ key: ['new'], value: { sizeBytes: 2, mediaType: 'x' } }]);
  await set.writeSeen(REPOSITORY, [{ key: ['gone'] }, { key: ['new'] }], 20);
  t.equal(await read('gone'), undefined, 'taken away as it was seen');
  t.same(await read('new'), { sizeBytes: 2, mediaType: 'x' }, 'written since');
  nowMs = 50;
  const [went, kept] = ['went', 'new'].map((key) => ({ key: [key], value: { sizeBytes: 2 } }));
  await set.write(REPOSITORY, [kept!]);
  await set.writeSeen(REPOSITORY, [went!, kept!], 20);
  t.equal(await read('went'), undefined, 'also beside what stands under a later clock than its tombstone');
});

t.test('a tombstone of an earlier clock takes nothing that was written later, and says so', async (t) => {
  await using stack = new AsyncDisposableStack();
  let nowMs = 10;
  const all = await owners(t.testdir(), stack, { nowMs: () => nowMs });
  const { set } = all.get('a')!;
  const put = async (): Promise<void> =>
    await set.write(REPOSITORY, [{ key: ['k'], value: { sizeBytes: 1 } }]);
  await put();
  await set.writeAt(REPOSITORY, [{ key: ['k'] }], 20);
  t.equal((await set.read(REPOSITORY, ['k']))?.value, undefined);
  await put();
  t.same((await set.read(REPOSITORY, ['k']))?.value, { sizeBytes: 1 });
  await t.rejects(set.writeAt(REPOSITORY, [{ key: ['k'] }], 20), { code: 'CONFLICT' });
  t.same((await set.read(REPOSITORY, ['k']))?.value, { sizeBytes: 1 });
  nowMs = 30;
  await set.write(REPOSITORY, [{ key: ['k'] }]);
  await set.writeAt(REPOSITORY, [{ key: ['k'] }], 20);
  t.equal((await set.read(REPOSITORY, ['k']))?.atMs, 30, 'a later tombstone is one as well');
});

t.test('a link of before a floor is buried as it was read', async (t) => {
  await using stack = new AsyncDisposableStack();
  let nowMs = 10;
  const all = await owners(t.testdir(), stack, { nowMs: () => nowMs });
  const { set } = all.get('a')!;
  const upstreams = { takesDeletes: () => true, client: () => undefined };
  const links = new Links({ set, upstreams, nowMs: () => 0, dateMs: () => nowMs } as never);
  const name = { ...REPOSITORY, digest: 'k' } as never as BlobName;
  await links.write([{ ...name, sizeBytes: 1 }]);
  for (const { own } of all.values()) await own.put(FULL_KEY, { sizeBytes: 1 }, 10);
  const read = (await links.find(name, { fresh: true }))!;
  for (const { floors } of all.values()) await floors.agree(['u', 'r'], 20);
  await links.bury(read);
  t.equal(await links.find(name, { fresh: true }), undefined);
  nowMs = 30;
  await links.write([{ ...name, sizeBytes: 1 }]);
  await links.bury(read);
  t.match(await links.find(name, { fresh: true }), { sizeBytes: 1 }, 'what was pushed since stays');
});
