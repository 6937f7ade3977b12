import t from 'tap';
import { WaitingRoom } from '../../src/async/waiting-room.ts';

const never = new AbortController().signal;
const REFUSED = {
  code: 'NO_PEERS',
  message: 'too many downloads at once',
  detail: { retryAfterSeconds: 2 },
};

/** Room for `most`, and what runs in it. */
function roomFor(most: number, more: Partial<ConstructorParameters<typeof WaitingRoom>[0]> = {}) {
  const now = { running: most };
  const makeRoom = (): void => undefined;
  const room = new WaitingRoom({
    ...{ running: () => now.running, makeRoom, what: 'downloads', most, lookMs: 1 },
    ...more,
  });
  return { room, now };
}

t.test('who finds no room waits until something ends', async (t) => {
  const { room, now } = roomFor(2);
  const place = room.place();
  t.notOk(place.take());
  let isIn = false;
  const waiting = place.wait(never).then(() => {
    isIn = true;
  });
  const gone = new AbortController();
  const left = room.place().wait(gone.signal);
  gone.abort(new Error('gone'));
  await t.rejects(left, /gone/);
  await t.rejects(room.place().wait(gone.signal), /gone/, 'who is gone before does not wait');
  t.notOk(isIn, 'not before');
  now.running = 1;
  await waiting;
  t.ok(place.take(), 'it has one');
});

t.test(
  'who comes later waits behind who waits already, and what one was let in for is no other’s',
  async (t) => {
    const { room, now } = roomFor(1);
    const order: string[] = [];
    const enter = async (name: string) => {
      const place = room.place();
      if (!place.take()) await place.wait(never);
      order.push(name);
      return place;
    };
    const first = enter('first');
    now.running = 0;
    const second = enter('second');
    const place = await first;
    t.same(order, ['first'], 'although there was room when the second came');
    t.notOk(room.place().take(), 'nothing runs yet, but its place is taken');
    now.running = 1;
    place.leave();
    place.leave();
    t.same(order, ['first'], 'now it runs');
    now.running = 0;
    (await second).leave();
    t.ok(room.place().take(), 'what came to nothing is given back');
  },
);

t.test('lanes take turns: many of one hold up none of another', async (t) => {
  const { room, now } = roomFor(1);
  const order: string[] = [];
  const wait = async (name: string, lane: string): Promise<void> => {
    const place = room.place(lane);
    await place.wait(never);
    order.push(name);
    place.leave();
  };
  const all = [
    ...['a1', 'a2', 'a3'].map((name) => wait(name, 'a')),
    ...['b1', 'b2'].map((name) => wait(name, 'b')),
  ];
  now.running = 0;
  await Promise.all(all);
  t.same(order, ['a1', 'a2', 'b1', 'a3', 'b2'], 'the first of all has its turn');
});

t.test('what nobody needs makes room at once, or a moment later', async (t) => {
  const { room, now } = roomFor(2, { makeRoom: () => (now.running -= 1) });
  t.ok(room.place().take());
  const late = roomFor(2, { makeRoom: () => setImmediate(() => (late.now.running = 1)), lookMs: 3_600_000 });
  const place = late.room.place();
  t.notOk(place.take());
  await place.wait(never);
});

t.test('the wait and those who wait are bounded', async (t) => {
  const late = roomFor(1, { waitMs: 5 });
  await t.rejects(late.room.place().wait(never), REFUSED, 'after the longest wait');
  const narrow = roomFor(1, { mostWaiting: 1 });
  const gone = new AbortController();
  const first = narrow.room.place().wait(gone.signal);
  await t.rejects(narrow.room.place().wait(never), REFUSED, 'one more than may wait');
  gone.abort(new Error('gone'));
  await t.rejects(first, /gone/);
});

t.test('a bug met while it is looked for room is told to all who wait', async (t) => {
  const { room } = roomFor(1, {
    makeRoom: () => {
      throw new TypeError('wrong code');
    },
  });
  const [one, other] = ['a', 'b'].map((lane) => room.place(lane).wait(never));
  await t.rejects(one!, TypeError);
  await t.rejects(other!, TypeError);
});
