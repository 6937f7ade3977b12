import { fc } from '@sepia/test-support/property';
import t from 'tap';
import type { Member } from '../src/document.ts';
import {
  beginChange,
  electorate,
  endChange,
  forkOf,
  foundingMembership,
  handEdits,
  type Membership,
  ownershipOf,
  owningIds,
  ringOfMost,
  shardOf,
  spareOf,
  waitsFor,
} from '../src/membership.ts';
import { ownersOf } from '../src/ring.ts';

const origin = (id: string, over: Partial<Member> = {}): Member => ({
  id,
  role: 'origin',
  urls: [`http://${id}:1`],
  peers: [],
  weight: 1,
  state: 'active',
  ...over,
});
const founded = (count: number): Membership =>
  foundingMembership({ members: Array.from({ length: count }, (_, at) => origin(`o${at + 1}`)) });
const keys = Array.from({ length: 400 }, (_, at) => `key ${at}`);
const ids = (from: number, to: number): string[] =>
  Array.from({ length: to - from + 1 }, (_, at) => `o${from + at}`);

t.test('a change goes from one epoch over both to the next', async (t) => {
  const old = founded(3);
  const moving = beginChange(old, { action: 'add', members: [origin('o4')] });
  t.match(moving, { epoch: 1, change: 'add o4', before: old.origins });
  t.same(owningIds(moving), ids(1, 4));
  t.same(electorate(moving), { epoch: 1, sets: [ids(1, 3), ids(1, 4)] });
  const done = endChange(moving);
  t.match(done, { epoch: 2, before: undefined, change: undefined });
  t.same(shardOf('k', done).sets, [ownersOf('k', done.origins).owners]);
  t.throws(() => beginChange(moving, { action: 'drain', ids: ['o1'] }), { code: 'RING_CHANGING' });
});

t.test('what is not possible is refused by name', async (t) => {
  const ring = founded(3);
  const drained = endChange(beginChange(ring, { action: 'drain', ids: ['o3'] }));
  const refusals: [Membership, Parameters<typeof beginChange>[1], RegExp][] = [
    [ring, { action: 'add', members: [origin('o1')] }, /o1 is in the ring already/],
    [ring, { action: 'add', members: [origin('t1', { role: 'tracker' })] }, /t1 is no origin/],
    [ring, { action: 'drain', ids: ['o9'] }, /o9 is not in the ring/],
    [ring, { action: 'drain', ids: ids(1, 3) }, /at least one origin/],
    [ring, { action: 'drain', ids: [] }, /name each origin once/],
    [ring, { action: 'remove', ids: ['o1'] }, /first: sepia ring drain o1/],
    [drained, { action: 'drain', ids: ['o3'] }, /o3 is drained already/],
  ];
  for (const [from, change, message] of refusals) t.throws(() => beginChange(from, change), { message });
  const removed = endChange(beginChange(drained, { action: 'remove', ids: ['o3'] }));
  t.same(
    removed.origins.map(({ id }) => id),
    ids(1, 2),
  );
  t.same(
    keys.map((key) => shardOf(key, removed)),
    keys.map((key) => ({ ...shardOf(key, drained), epoch: 4 })),
  );
  t.same(owningIds(endChange(beginChange(drained, { action: 'add', members: [origin('o3')] }))), [
    ...ids(1, 2),
    'o3',
  ]);
});

t.test('only what must move moves: to who joins, from who leaves', async () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 1, max: 4 }), (count, more) => {
      const ring = founded(count);
      const added = ids(count + 1, count + more);
      const grown = beginChange(ring, { action: 'add', members: added.map((id) => origin(id)) });
      for (const key of keys.slice(0, 60)) {
        const { sets } = shardOf(key, grown);
        const [old, now = old] = sets as [string[], string[] | undefined];
        const arriving = now.filter((id) => !old.includes(id));
        if (!arriving.every((id) => added.includes(id))) return false;
        const shrunk = beginChange(endChange(grown), { action: 'drain', ids: added });
        const back = shardOf(key, shrunk).sets.at(-1)!;
        if (JSON.stringify(back) !== JSON.stringify(ownersOf(key, ring.origins).owners)) return false;
      }
      return true;
    }),
  );
});

t.test('3 → 4 moves a quarter of the copies', async (t) => {
  const moving = beginChange(founded(3), { action: 'add', members: [origin('o4')] });
  const moved = keys.filter((key) => shardOf(key, moving).sets.length === 2).length;
  t.ok(
    moved > 0.68 * keys.length && moved < 0.82 * keys.length,
    `${moved} of ${keys.length} keys get one new owner`,
  );
  for (const key of keys) {
    const [old = [], now = old] = shardOf(key, moving).sets;
    t.equal(now.filter((id) => !old.includes(id)).length, now === old ? 0 : 1);
  }
});

t.test('in a change old and new owners are asked, and no stand-in is drained', async (t) => {
  const moving = beginChange(founded(6), { action: 'drain', ids: ['o5', 'o6'] });
  for (const key of keys) {
    const { owners, standIns, order } = ownershipOf(key, moving);
    t.same(new Set(owners), new Set(shardOf(key, moving).sets.flat()));
    t.notOk(standIns.some((id) => owners.includes(id) || ['o5', 'o6'].includes(id)));
    t.equal(new Set(order).size, 6);
  }
});

t.test('a change waits for all new owners, and for a majority of every old set', async (t) => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 6 }), fc.subarray(ids(1, 7)), (count, done) => {
      const moving = beginChange(founded(count), { action: 'add', members: [origin('o7')] });
      const reports = done.map((id) => ({ id, epoch: 1, isDone: true }));
      const waits = waitsFor(moving, reports);
      const isOver = waits.length === 0;
      const all = [...ids(1, count), 'o7'].every((id) => done.includes(id));
      return isOver === all;
    }),
  );
  const drain = beginChange(founded(4), { action: 'drain', ids: ['o4'] });
  const done = (...of: string[]) => of.map((id) => ({ id, epoch: 1, isDone: true }));
  t.same(waitsFor(drain, done('o1', 'o2', 'o3')), [], 'who is drained may be dead');
  t.same(waitsFor(drain, done('o1', 'o2', 'o4')), ['o3']);
  t.same(
    waitsFor(drain, [...done('o1', 'o2'), { id: 'o3', epoch: 0, isDone: true }]),
    ['o3', 'o4'],
    'of an older epoch',
  );
  t.equal(spareOf(founded(2).origins), 0);
  t.equal(spareOf(founded(5).origins), 1);
});

t.test('a document changed by hand is refused where content would be lost', async (t) => {
  const ring = founded(3);
  const file = ring.origins;
  t.same(handEdits(ring, file, file), []);
  t.same(
    handEdits(ring, file, [...file, origin('o4')]),
    [],
    'one that is added waits until it is in the ring',
  );
  t.match(handEdits(ring, file, file.slice(1)), [/o1 is not in it any more/]);
  t.match(handEdits(ring, file, [origin('o1', { weight: 2 }), ...file.slice(1)]), [/weight of o1 was 1/]);
  t.match(handEdits(ring, file, [origin('o1', { state: 'draining' }), ...file.slice(1)]), [
    /state of o1 is active/,
  ]);
  t.same(
    handEdits(ring, file, [origin('o1', { urls: ['http://new:2'] }), ...file.slice(1)]),
    [],
    'addresses may change',
  );
  const moving = beginChange(ring, { action: 'drain', ids: ['o3'] });
  t.match(handEdits(moving, file, file.slice(0, 2)), [/o3 is not in it any more/], 'it is not drained yet');
  t.same(handEdits(endChange(moving), file, file.slice(0, 2)), [], 'it keeps nothing any more');
});

/** One change: the last origin is drained, or added again. */
function turned(ring: Membership, id: string): Membership {
  const isActive = ring.origins.some((one) => one.id === id && one.state === 'active');
  return endChange(
    beginChange(ring, isActive ? { action: 'drain', ids: [id] } : { action: 'add', members: [origin(id)] }),
  );
}

t.test('two epochs of one ring are no fork, whatever lies between; a branch is one, for ever', async () => {
  const ring = { min: 0, max: 40 };
  fc.assert(
    fc.property(fc.integer(ring), fc.integer(ring), fc.boolean(), (common, more, isBegun) => {
      let at = founded(4);
      for (let done = 0; done < common; done++) at = turned(at, 'o4');
      let grown = at;
      for (let done = 0; done < more; done++) grown = turned(grown, 'o4');
      if (isBegun) grown = beginChange(grown, { action: 'drain', ids: ['o2'] });
      if (forkOf(at, grown) !== undefined || forkOf(grown, at) !== undefined) return false;
      // As a copy of the folders that went another way, at the same epochs and with the same origins in the end.
      const branch = turned(turned(at, 'o3'), 'o3');
      const rest = turned(turned(at, 'o2'), 'o2');
      return (
        forkOf(turned(branch, 'o1'), turned(rest, 'o1')) === 2 * common + 1 &&
        forkOf(branch, at) === undefined
      );
    }),
  );
});

t.test('a ring of other origins is told apart by its first epoch, however long ago', async (t) => {
  let other = foundingMembership({ members: ['o1', 'o2', 'o7', 'o4'].map((id) => origin(id)) });
  for (let done = 0; done < 100; done++) other = turned(other, 'o4');
  t.equal(forkOf(founded(4), other), 0);
  t.equal(forkOf(turned(founded(4), 'o4'), other), 0);
  t.equal(other.lineage?.length, 65);
});

t.test(
  'a membership of an earlier version names no past: it is followed, and its successors name it',
  async (t) => {
    const { lineage: _, ...early } = turned(founded(4), 'o4');
    t.equal(forkOf(founded(3), early), undefined);
    const next = turned(early, 'o4');
    t.same(
      next.lineage?.map(({ epoch }) => epoch),
      [2, 3],
    );
    t.equal(forkOf(early, next), undefined);
    t.equal(forkOf({ ...early, origins: founded(3).origins }, next), 2);
  },
);

t.test('addresses are no part of a lineage, and its bytes stay', async (t) => {
  const moved = foundingMembership({ members: ids(1, 4).map((id) => origin(id, { urls: ['http://x:9'] })) });
  t.equal(forkOf(moved, turned(founded(4), 'o4')), undefined);
  t.same(turned(founded(4), 'o4').lineage, [
    { epoch: 0, hash: '9156e67aa3befa1186d573ea47619d91' },
    { epoch: 1, hash: 'a15d21eea5ea19aa31ba6b9a7401bf54' },
  ]);
});

t.test('steps of members that drop the lineage never make a fork of one ring', async () => {
  fc.assert(
    fc.property(fc.array(fc.boolean(), { minLength: 1, maxLength: 80 }), (isOlder) => {
      const epochs = [founded(4)];
      for (const drops of isOlder) {
        const at = epochs.at(-1)!;
        const isDrain = at.origins.some((one) => one.id === 'o4' && one.state === 'active');
        const change = isDrain
          ? ({ action: 'drain', ids: ['o4'] } as const)
          : ({ action: 'add', members: [origin('o4')] } as const);
        const { lineage, ...next } = at.epoch % 2 === 1 ? endChange(at) : beginChange(at, change);
        epochs.push(drops || lineage === undefined ? next : { ...next, lineage });
      }
      return epochs.every((one) => epochs.every((other) => forkOf(one, other) === undefined));
    }),
  );
});

t.test('who knows no ring follows the one that most name, at whatever epoch', async (t) => {
  const own = founded(3);
  let other = foundingMembership({ members: ['o1', 'o2', 'o7'].map((id) => origin(id)) });
  for (let done = 0; done < 5; done++) other = turned(other, 'o7');
  const grown = turned(own, 'o3');
  const by = (id: string, membership: Membership) => ({ by: id, membership });
  t.same(ringOfMost([]), { ring: undefined, count: 0, others: [] });
  t.same(ringOfMost([by('o1', own), by('o2', other), by('o3', grown)]), {
    ring: grown,
    count: 2,
    others: [by('o2', other)],
  });
  t.equal(ringOfMost([by('o1', own), by('o2', other)]).ring, other, 'of as many the newest');
});
