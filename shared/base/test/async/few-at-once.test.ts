import { getEventListeners } from 'node:events';
import t from 'tap';
import { fewAtOnce } from '../../src/async/few-at-once.ts';
import { CodedError } from '../../src/errors.ts';

/** Work that the test ends; notes what was begun and its signal. */
function bench() {
  const begun = new Map<number, { end: () => void; fail: (error: unknown) => void; signal: AbortSignal }>();
  const work = (one: number, signal: AbortSignal): Promise<void> =>
    new Promise((resolve, reject) => begun.set(one, { end: resolve, fail: reject, signal }));
  return { begun, work };
}

/** Lets everything go on that waits for no more than promises. */
async function settled(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
}

t.test('a list is worked through in order, no more than so many at a time', async (t) => {
  const { begun, work } = bench();
  const all = fewAtOnce([1, 2, 3, 4, 5], 2, work);
  await settled();
  t.same([...begun.keys()], [1, 2]);
  begun.get(2)!.end();
  await settled();
  t.same([...begun.keys()], [1, 2, 3]);
  begun.get(1)!.end();
  begun.get(3)!.end();
  await settled();
  t.same([...begun.keys()], [1, 2, 3, 4, 5]);
  begun.get(4)!.end();
  begun.get(5)!.end();
  await all;
  await fewAtOnce([], 3, work);
});

t.test('the first failure aborts the rest and is thrown when nothing runs any more', async (t) => {
  const { begun, work } = bench();
  let isOver = false;
  const all = fewAtOnce([1, 2, 3], 2, work).finally(() => {
    isOver = true;
  });
  const failure = t.rejects(all, { code: 'DISK_FULL' });
  await settled();
  begun.get(2)!.fail(new CodedError('DISK_FULL'));
  await settled();
  t.ok(begun.get(1)!.signal.aborted);
  t.notOk(isOver, 'the other still runs');
  begun.get(1)!.fail(new CodedError('TIMEOUT'));
  await failure;
  t.same([...begun.keys()], [1, 2]);
});

t.test('who leaves stops it', async (t) => {
  const { begun, work } = bench();
  const leaver = new AbortController();
  const all = fewAtOnce([1, 2], 1, work, leaver.signal);
  const failure = t.rejects(all, { code: 'DRAINING' });
  await settled();
  leaver.abort(new CodedError('DRAINING'));
  t.ok(begun.get(1)!.signal.aborted);
  begun.get(1)!.end();
  await failure;
  t.same([...begun.keys()], [1]);
});

t.test('nothing is left at a signal that lives on, however it ends', async (t) => {
  const { signal } = new AbortController();
  const note = async (one: number): Promise<void> => {
    t.equal(getEventListeners(signal, 'abort').length, 1);
    if (one === 3) throw new CodedError('DISK_FULL');
  };
  await fewAtOnce([1, 2], 1, note, signal);
  t.equal(getEventListeners(signal, 'abort').length, 0);
  await t.rejects(fewAtOnce([3], 1, note, signal), { code: 'DISK_FULL' });
  t.equal(getEventListeners(signal, 'abort').length, 0);
});
