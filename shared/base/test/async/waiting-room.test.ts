import t from 'tap';
import { WaitingRoom } from '../../src/async/waiting-room.ts';

const never = new AbortController().signal;

t.test('who finds no room waits until something ends', async (t) => {
  let running = 2;
  const room = new WaitingRoom({
    running: () => running,
    makeRoom: () => undefined,
    what: 'downloads',
    most: 2,
    lookMs: 1,
  });
  t.ok(room.isFull);
  let isIn = false;
  const waiting = room.wait(never).then(() => {
    isIn = true;
  });
  await room.wait(AbortSignal.timeout(20)).catch(() => undefined);
  t.notOk(isIn, 'not before');
  running = 1;
  await waiting;
  t.ok(isIn);
});

t.test('what nobody needs makes room at once', async (t) => {
  let running = 2;
  const room = new WaitingRoom({
    running: () => running,
    makeRoom: () => (running -= 1),
    what: 'downloads',
    most: 2,
  });
  t.notOk(room.isFull);
  await room.wait(never);
});

t.test('the wait and those who wait are bounded', async (t) => {
  const full = { running: () => 1, makeRoom: () => undefined, what: 'downloads', most: 1, lookMs: 1 };
  const late = new WaitingRoom({ ...full, waitMs: 5 });
  const refused = {
    code: 'NO_PEERS',
    message: 'too many downloads at once',
    detail: { retryAfterSeconds: 2 },
  };
  await t.rejects(late.wait(never), refused, 'after the longest wait');
  const narrow = new WaitingRoom({ ...full, mostWaiting: 1 });
  const gone = new AbortController();
  const first = narrow.wait(gone.signal);
  await t.rejects(narrow.wait(never), refused, 'one more than may wait');
  gone.abort(new Error('gone'));
  await t.rejects(first, /gone/);
});
