import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { WINDOW_MS } from '../../../src/deadlines.ts';
import {
  keyOf,
  type Place,
  type PlaceLimits,
  PushPlaces,
  SLOW_BYTES,
} from '../../../src/registry/core/push-places.ts';

const LIMITS = { all: 6, perAccount: 3, perAddress: 4, heldBytes: 400 };
const a = { account: 'a', address: '1' };

function enter(places: PushPlaces, pusher: { account?: string; address: string }, nowMs = 0): Place {
  const found = places.enter(pusher, nowMs);
  if (found.type === 'refuse') throw new Error(`refused by ${found.limit}`);
  return found.place;
}

t.test('the limit of an account comes before that of an address, and that before all', async (t) => {
  const places = new PushPlaces(LIMITS);
  for (let i = 0; i < 3; i++) enter(places, a);
  t.same(places.enter(a, 0), { type: 'refuse', limit: 'account' });
  enter(places, { account: 'b', address: '1' });
  t.same(places.enter({ address: '1' }, 0), { type: 'refuse', limit: 'address' });
  enter(places, { address: '2' });
  enter(places, { address: '3' });
  t.same(places.enter({ address: '4' }, 0), { type: 'refuse', limit: 'all' });
  places.adjust({ ...LIMITS, all: 7 });
  t.equal(places.enter({ address: '4' }, 0).type, 'go');
});

t.test('a body that comes a byte at a time gives up its place, one that waits for us does not', async (t) => {
  const places = new PushPlaces({ ...LIMITS, all: 2 });
  const [slow, held] = [enter(places, { address: '1' }), enter(places, { address: '2' })];
  for (let at = 0; at <= WINDOW_MS; at += WINDOW_MS / 4) {
    places.moved(slow, at / 1_000, true, at);
    places.moved(held, 0, false, at);
  }
  t.same(places.enter({ address: '3' }, WINDOW_MS).type, 'go');
  t.equal(places.open, 2);
  t.same(places.enter({ address: '4' }, WINDOW_MS), { type: 'refuse', limit: 'all' });
});

t.test('a body that is fast again is not slow any more', async (t) => {
  const places = new PushPlaces({ ...LIMITS, all: 1 });
  const one = enter(places, a);
  places.moved(one, 10, true, WINDOW_MS);
  places.moved(one, 10 + SLOW_BYTES, true, WINDOW_MS * 2);
  t.same(places.enter(a, WINDOW_MS * 2), { type: 'refuse', limit: 'all' });
});

t.test('one pusher holds at most a quarter of the memory', async (t) => {
  const places = new PushPlaces(LIMITS);
  const mine = [enter(places, a), enter(places, a)];
  t.ok(places.hold(mine[0]!, 60));
  t.notOk(places.hold(mine[1]!, 41));
  t.ok(places.hold(mine[1]!, 40));
  t.ok(places.hold(enter(places, { address: '1' }), 100), 'an address without account is another');
  places.leave(mine[0]!);
  t.ok(places.hold(mine[1]!, 100));
  t.equal(places.heldBytes, 200);
});

t.test('whatever comes, no limit is passed and nobody loses a place who is not slow', async (t) => {
  const pusher = fc.record(
    { account: fc.constantFrom('a', 'b'), address: fc.constantFrom('1', '2', '3') },
    { requiredKeys: ['address'] },
  );
  const step = fc.oneof(
    fc.record({ type: fc.constant('enter' as const), pusher }),
    fc.record({ type: fc.constant('leave' as const), which: fc.nat(20) }),
    fc.record({
      type: fc.constant('moved' as const),
      which: fc.nat(20),
      bytes: fc.nat(SLOW_BYTES * 2),
      waits: fc.boolean(),
    }),
    fc.record({ type: fc.constant('hold' as const), which: fc.nat(20), bytes: fc.nat(500) }),
  );
  const countOf = (open: readonly Place[], counts: (place: Place) => boolean): number =>
    open.filter(counts).length;
  const isWithin = (open: readonly Place[], { all, perAccount, perAddress }: PlaceLimits): boolean =>
    open.length <= all &&
    open.every(({ pusher: { account, address } }) => {
      const same = account === undefined ? 0 : countOf(open, (one) => one.pusher.account === account);
      return same <= perAccount && countOf(open, (one) => one.pusher.address === address) <= perAddress;
    });
  fc.assert(
    fc.property(fc.array(fc.tuple(step, fc.nat(WINDOW_MS)), { maxLength: 60 }), (steps) => {
      const places = new PushPlaces(LIMITS);
      const bytes = new Map<Place, number>();
      const everSlow = new Set<Place>();
      let open: Place[] = [];
      let nowMs = 0;
      for (const [one, passedMs] of steps) {
        nowMs += passedMs;
        if (one.type === 'enter') {
          const found = places.enter(one.pusher, nowMs);
          if (found.type === 'refuse') continue;
          if (!found.instead.every((each) => everSlow.has(each)))
            throw new Error('a fast body lost its place');
          open = [...open.filter((each) => !found.instead.includes(each)), found.place];
        } else {
          const place = open[one.which % Math.max(1, open.length)];
          if (place === undefined) continue;
          if (one.type === 'leave') {
            places.leave(place);
            open = open.filter((each) => each !== place);
          } else if (one.type === 'hold') places.hold(place, one.bytes);
          else {
            bytes.set(place, (bytes.get(place) ?? 0) + one.bytes);
            if (one.waits) everSlow.add(place);
            places.moved(place, bytes.get(place)!, one.waits, nowMs);
          }
        }
        if (places.open !== open.length) throw new Error(`${places.open} places for ${open.length}`);
        if (!isWithin(open, LIMITS)) throw new Error('a limit was passed');
        if (places.heldBytes > LIMITS.heldBytes) throw new Error('too much is held');
      }
    }),
  );
  t.not(keyOf({ account: '1', address: '2' }), keyOf({ address: '1' }));
});

t.test('a push that lost its place holds nothing and is not judged any more', async (t) => {
  const places = new PushPlaces({ ...LIMITS, all: 1 });
  const slow = enter(places, { address: '1' });
  places.moved(slow, 0, true, WINDOW_MS);
  t.match(places.enter({ address: '2' }, WINDOW_MS), { type: 'go', instead: [slow] });
  places.moved(slow, 0, true, 2 * WINDOW_MS);
  t.notOk(places.hold(slow, 1));
  t.same([places.open, places.heldBytes], [1, 0]);
  t.equal(places.enter({ address: '3' }, 2 * WINDOW_MS).type, 'refuse', 'who has the place now is not slow');
});

t.test('pushers within their share hold no more than there is in all', async (t) => {
  const places = new PushPlaces(LIMITS);
  const five = ['1', '2', '3', '4', '5'].map((address) => enter(places, { address }));
  for (const place of five.slice(0, 4)) t.ok(places.hold(place, 100));
  t.notOk(places.hold(five[4]!, 1));
  t.ok(places.hold(five[0]!, 40), 'less may always be held');
  t.ok(places.hold(five[4]!, 60));
  t.equal(places.heldBytes, 400);
});
