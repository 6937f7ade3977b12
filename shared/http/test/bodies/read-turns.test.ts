import { mock } from 'node:test';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { ReadTurns } from '../../src/bodies/read-turns.ts';

t.test('as many as may run at once, in the order asked', async (t) => {
  const turns = new ReadTurns({ most: 2, mostOfBlob: 4, turnMs: 60_000, lateMs: 60_000 });
  const begun: number[] = [];
  const ends: (() => void)[] = [];
  const all = [0, 1, 2, 3].map((n) =>
    turns.run('a', async () => {
      begun.push(n);
      await new Promise<void>((resolve) => ends.push(resolve));
      return n;
    }),
  );
  t.same(begun, [0, 1], 'two begin, two wait');
  for (const n of [0, 1, 2, 3]) {
    ends[n]?.();
    t.equal(await all[n], n);
    await Promise.resolve();
  }
  t.same(begun, [0, 1, 2, 3]);
});

t.test('one that fails hands its turn on; one that takes long does before its end', async (t) => {
  const turns = new ReadTurns({ most: 1, mostOfBlob: 2, turnMs: 20, lateMs: 60_000 });
  await t.rejects(turns.run('a', () => Promise.reject(new Error('no'))));
  let finish = (): void => undefined;
  const slow = turns.run('a', () => new Promise<void>((resolve) => (finish = resolve)));
  t.equal(await turns.run('a', () => Promise.resolve('next')), 'next', 'while the slow one runs');
  finish();
  await slow;
  t.equal(await turns.run('a', () => Promise.resolve('last')), 'last');
});

/** What began so far, in order, and what ends the first that has not ended. */
function readers(turns: ReadTurns): {
  begun: string[];
  read: (blob: string) => void;
  end: () => Promise<void>;
} {
  const begun: string[] = [];
  const running: { end: () => void; ended: Promise<void> }[] = [];
  const read = (blob: string): void => {
    const ended = turns.run(blob, async () => {
      begun.push(blob);
      const { promise, resolve } = Promise.withResolvers<void>();
      running.push({ end: resolve, ended: Promise.resolve().then(() => ended) });
      await promise;
    });
  };
  const end = async (): Promise<void> => {
    const first = running.shift();
    first?.end();
    await first?.ended;
  };
  return { begun, read, end };
}

t.test('who reads another blob waits for few of those that read one', async (t) => {
  const { begun, read, end } = readers(
    new ReadTurns({ most: 2, mostOfBlob: 300, turnMs: 60_000, lateMs: 60_000 }),
  );
  for (let n = 0; n < 300; n++) read('one');
  read('another');
  read('third');
  for (let ends = 0; ends < 4; ends++) await end();
  t.same(begun.slice(0, 2), ['one', 'one'], 'at once');
  t.same(begun.slice(2).toSorted(), ['another', 'one', 'one', 'third'], 'each blob in its turn');
  for (let ends = 4; ends < 302; ends++) await end();
  t.equal(begun.length, 302, 'all have read');
});

t.test('reads that are late count to their blob, and not to the others', async (t) => {
  const { begun, read, end } = readers(new ReadTurns({ most: 1, mostOfBlob: 3, turnMs: 1, lateMs: 60_000 }));
  for (let n = 0; n < 6; n++) read('one');
  read('another');
  await until(() => begun.length === 4, 'three and the other have begun');
  await t.rejects(
    until(() => begun.length > 4, 'no more', 50),
    'the other three wait',
  );
  t.same(begun.toSorted(), ['another', 'one', 'one', 'one']);
  for (let ends = 0; ends < 7; ends++) {
    await until(() => begun.length >= Math.min(7, ends + 1), 'the next has begun');
    await end();
  }
  t.equal(begun.length, 7);
});

t.test('a source that hangs holds up nobody for ever, not those of its blob either', async (t) => {
  const { begun, read } = readers(new ReadTurns({ most: 1, mostOfBlob: 2, turnMs: 1, lateMs: 1 }));
  for (let n = 0; n < 5; n++) read('one');
  await until(() => begun.length === 5, 'all have begun, none has ended');
  t.equal(begun.length, 5);
});

t.test('where the source of a blob hangs, that is waited for once', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  const { begun, read, end } = readers(new ReadTurns({ most: 2, mostOfBlob: 2, turnMs: 10, lateMs: 1_000 }));
  const passes = async (ms: number): Promise<void> => {
    mock.timers.tick(ms);
    for (let turn = 0; turn < 5; turn++) await new Promise(setImmediate);
  };
  for (let n = 0; n < 10; n++) read('one');
  await passes(10);
  await passes(999);
  t.equal(begun.length, 2);
  await passes(1);
  t.equal(begun.length, 4, 'two were late');
  await passes(10);
  await passes(10);
  t.equal(begun.length, 8, 'the next are not waited for as long');
  for (let n = 0; n < 10; n++) await end();
  t.equal(begun.length, 10);
});

t.test('who leaves while it waits takes no turn, neither of its blob nor of all', async (t) => {
  const turns = new ReadTurns({ most: 1, mostOfBlob: 2, turnMs: 60_000, lateMs: 60_000 });
  const begun: string[] = [];
  let finish = (): void => undefined;
  const first = turns.run('one', async () => {
    begun.push('first');
    await new Promise<void>((resolve) => (finish = resolve));
  });
  const gone = new AbortController();
  const why = new Error('went away');
  const leaving = ['for the turn', 'for the room', 'for the room too'].map(
    async (what) => await turns.run('one', async () => begun.push(what), gone.signal),
  );
  const ends = leaving.map(async (one) => await t.rejects(one, why));
  gone.abort(why);
  await Promise.all(ends);
  const next = turns.run('one', async () => begun.push('next'));
  finish();
  await first;
  await next;
  t.same(begun, ['first', 'next']);
});
