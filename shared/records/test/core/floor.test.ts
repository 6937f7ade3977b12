import t from 'tap';
import {
  behindFloor,
  buriedAt,
  higherFloor,
  isGoneBy,
  mayGo,
  NO_FLOOR,
  NOBODY_MS,
  standingAbove,
  takenAbove,
} from '../../src/core/floor.ts';
import { joinFields, joinWhole } from '../../src/core/join.ts';
import { clockOf } from '../../src/core/set-protocol.ts';

const live = (atMs: number) => ({ atMs, value: { sizeBytes: 1 } });
const FLOOR = { promisedMs: 20, agreedMs: 10 };

t.test('what is not there and below the floor is taken from no lower one', async (t) => {
  const own = { entry: undefined, agreedMs: 10 };
  t.equal(takenAbove(own, { entry: live(10), agreedMs: NOBODY_MS }, joinWhole), undefined);
  t.equal(takenAbove(own, { entry: live(10), agreedMs: 9 }, joinWhole), undefined);
  t.same(takenAbove(own, { entry: live(10), agreedMs: 10 }, joinWhole), live(10), 'lost here');
  t.same(takenAbove(own, { entry: live(11), agreedMs: 0 }, joinFields), { ...live(11), deadMs: 10 });
  t.same(
    takenAbove({ entry: undefined, agreedMs: 0 }, { entry: live(1), agreedMs: NOBODY_MS }, joinFields),
    live(1),
    'without a floor nothing is added',
  );
  t.same(takenAbove({ entry: live(5), agreedMs: 10 }, { entry: live(6), agreedMs: 0 }, joinWhole), live(6));
});

t.test('what a higher floor lacks is gone, for who reads and for who takes it over', async (t) => {
  const gone = { entry: live(10), agreedMs: 9 };
  const by = { entry: undefined, agreedMs: 10 };
  t.ok(isGoneBy(gone, by));
  t.notOk(isGoneBy({ ...gone, agreedMs: 10 }, by), 'both once had it');
  t.notOk(isGoneBy({ ...gone, entry: live(11) }, by));
  t.equal(standingAbove([gone, by], joinWhole), undefined);
  t.same(standingAbove([{ ...gone, entry: live(11) }, by], joinWhole), live(11));
  t.same(standingAbove([gone, { entry: live(4), agreedMs: 10 }], joinWhole), live(10));
});

t.test('a write that says something new must be later than what is promised', async (t) => {
  t.equal(behindFloor(FLOOR, undefined, live(10), undefined), 10, 'hidden: it stands nowhere');
  t.equal(behindFloor(FLOOR, undefined, live(20), live(20)), 20);
  t.equal(behindFloor(FLOOR, undefined, live(21), live(21)), undefined);
  t.equal(behindFloor(FLOOR, live(15), live(15), undefined), undefined, 'it stands already');
  t.equal(behindFloor(NO_FLOOR, undefined, live(1), live(1)), undefined);
});

t.test('a collection buries at the clock of what it saw, or above the floor, or waits', async (t) => {
  t.equal(buriedAt(FLOOR, live(21), 21), 21);
  t.equal(buriedAt(FLOOR, live(22), 21), undefined, 'written since');
  t.equal(buriedAt(FLOOR, live(15), 15), undefined, 'promised');
  t.equal(buriedAt(FLOOR, live(5), 5), undefined, 'more is promised than agreed on');
  t.equal(buriedAt({ promisedMs: 10, agreedMs: 10 }, live(5), 5), 10.5);
  t.equal(buriedAt({ promisedMs: 10, agreedMs: 10 }, live(10), 10), 10.5, 'at the floor itself as below it');
  t.equal(buriedAt({ promisedMs: 10, agreedMs: 10 }, undefined, 5), undefined);
});

t.test("floors only grow, and writers' clocks are whole beside them", async (t) => {
  t.same(higherFloor(FLOOR, { promisedMs: 15, agreedMs: 15 }), { promisedMs: 20, agreedMs: 15 });
  t.ok(mayGo({ atMs: 10 }, FLOOR));
  t.notOk(mayGo({ atMs: 10.5 }, FLOOR));
  t.notOk(mayGo(live(5), FLOOR));
  t.equal(clockOf(1, { behindMs: 10.5 }), 11);
  t.equal(clockOf(1, { aheadMs: 10.5 }), 11);
  t.equal(clockOf(50, { behindMs: 10.5, aheadMs: 60 }), 60);
});
