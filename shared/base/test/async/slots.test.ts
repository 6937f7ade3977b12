import t from 'tap';
import { Slots, settleAll } from '../../src/async/slots.ts';
import { CodedError } from '../../src/errors.ts';

const limits = {
  queueLimit: 2,
  refusal: (why: 'full' | 'late') => new CodedError('OVERLOADED', { message: why }),
};

/** Turns of the event loop: what waits for nothing but promises is done. */
async function turns(): Promise<void> {
  for (let at = 0; at < 3; at++) await new Promise((resolve) => setImmediate(resolve));
}

t.test('so many at once, the others in the order in which they came', async (t) => {
  const slots = new Slots({ slots: 2 });
  const held: string[] = [];
  const releases = new Map<string, () => void>();
  for (const name of ['a', 'b', 'c', 'd'])
    void slots.acquire().then((release) => {
      held.push(name);
      releases.set(name, release);
    });
  await turns();
  t.equal(held.join(''), 'ab');
  releases.get('b')!();
  releases.get('b')!();
  await turns();
  t.equal(held.join(''), 'abc', 'given back twice it counts once');
  t.equal(slots.held, 2);
  t.equal(slots.take(), undefined);
  releases.get('a')!();
  await turns();
  for (const name of ['c', 'd']) releases.get(name)!();
  t.equal(held.join(''), 'abcd');
  t.equal(slots.held, 0);
  slots.take()!();
  t.equal(slots.held, 0);
});

t.test('lanes take turns, and who waits in one is served in order', async (t) => {
  const slots = new Slots({ slots: 1 });
  const order: string[] = [];
  const first = slots.take();
  const wait = async (name: string, lane: string, signal?: AbortSignal): Promise<void> => {
    const release = await slots.acquire(signal, lane);
    order.push(name);
    await Promise.resolve();
    release();
  };
  const gone = new AbortController();
  const waiting = [
    ...['a1', 'a2', 'a3', 'a4'].map((name) => wait(name, 'a')),
    ...['b1', 'b2'].map((name) => wait(name, 'b')),
    wait('c1', 'c'),
  ];
  const left = wait('d1', 'd', gone.signal);
  gone.abort(new Error('left'));
  await t.rejects(left, { message: 'left' });
  first?.();
  await Promise.all(waiting);
  t.same(order, ['a1', 'b1', 'c1', 'a2', 'b2', 'a3', 'a4']);
  t.equal(slots.held, 0);
});

t.test('a waiter that left is passed over, and none after it is forgotten', async (t) => {
  const slots = new Slots({ slots: 1 });
  const release = slots.take()!;
  const leaving = new AbortController();
  const first = slots.acquire(leaving.signal);
  const second = slots.acquire();
  const reason = new Error('gone');
  leaving.abort(reason);
  await t.rejects(first, reason);
  release();
  (await second)();
  t.equal(slots.held, 0);
  await t.rejects(slots.acquire(leaving.signal), reason, 'nobody begins who has left');
  t.equal(slots.held, 0);
});

t.test('one waiter too many is refused, and one that waits too long', async (t) => {
  const slots = new Slots({ slots: 1, limits });
  const release = slots.take()!;
  const waiting = [slots.acquire(), slots.acquire()];
  await t.rejects(slots.acquire(), { code: 'OVERLOADED', message: 'full' });
  release();
  for (const one of waiting) (await one)();
  const late = new Slots({ slots: 1, limits: { ...limits, waitMs: 1 } });
  const end = late.take()!;
  await t.rejects(late.acquire(), { code: 'OVERLOADED', message: 'late' });
  end();
  t.equal(late.held, 0, 'it did not get the slot behind its back');
});

t.test('a task begins at once where there is a slot; its failure gives it back', async (t) => {
  const slots = new Slots({ slots: 1 });
  let begun = 0;
  const failing = slots.run(async () => {
    begun += 1;
    throw new Error('no');
  });
  t.equal(begun, 1);
  const next = slots.run(async () => begun);
  await t.rejects(failing, { message: 'no' });
  t.equal(await next, 1);
  t.equal(slots.held, 0);
});

t.test('all have ended where one failed', async (t) => {
  let isOver = false;
  const slow = turns().then(() => {
    isOver = true;
    return 2;
  });
  await t.rejects(settleAll([slow, Promise.reject(new Error('no'))]), { message: 'no' });
  t.ok(isOver);
  t.same(await settleAll([slow, Promise.resolve(3)]), [2, 3]);
});
