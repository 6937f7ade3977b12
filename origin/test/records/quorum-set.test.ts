import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { type Link, RecordStore } from '@sepia/records/store/record-store';
import { LevelTable } from '@sepia/records/table/level-table';
import { DataFolder } from '@sepia/store/data-folder';
import t from 'tap';
import type { Members } from '../../src/cluster/members.ts';
import { acknowledged, askCounted } from '../../src/records/ask-counted.ts';
import { QuorumSet } from '../../src/records/quorum-set.ts';

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
  await acknowledged(SHARD, write(['b']));
  await t.rejects(acknowledged(SHARD, write(['b', 'c'])), { code: 'QUORUM_LOST' });
});

t.test('what an older generation says does not count', async (t) => {
  const known: Record<string, Record<string, number>> = { a: { b: 2 } };
  const ask = async (id: string) => {
    if (id === 'c') throw new CodedError('PEER_HTTP');
    return { sender: sender(id, known[id]), answer: id };
  };
  t.same(await askCounted(SHARD, ask), { answers: ['a'], isEnough: false, silent: ['c'] });
  await t.rejects(
    acknowledged(SHARD, async (id) => (await ask(id)).sender),
    { code: 'QUORUM_LOST' },
  );
});

t.test('in a ring change old and new owners must answer', async (t) => {
  const joint = { epoch: 1, sets: [IDS, ['d', 'e', 'f']] };
  const write = (dead: readonly string[]) => async (id: string) => {
    if (dead.includes(id)) throw new CodedError('PEER_HTTP');
    return sender(id);
  };
  await acknowledged(joint, write(['a', 'd']));
  await t.rejects(acknowledged(joint, write(['d', 'e'])), { code: 'QUORUM_LOST' });
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
  await t.rejects(acknowledged(SHARD, wrong), TypeError);
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
