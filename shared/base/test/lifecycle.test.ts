import { getEventListeners } from 'node:events';
import t from 'tap';
import { endedOrAborted } from '../src/lifecycle.ts';

t.test('work is waited for until a signal aborts, and leaves nothing behind at it', async (t) => {
  const over = new AbortController();
  const { signal } = over;
  await endedOrAborted(Promise.resolve(), signal);
  await t.rejects(endedOrAborted(Promise.reject(new Error('no')), signal), { message: 'no' });
  t.equal(getEventListeners(signal, 'abort').length, 0);

  const work = Promise.withResolvers<void>();
  const waited = endedOrAborted(work.promise, signal);
  over.abort();
  await waited;
  await endedOrAborted(work.promise, signal);
  // Nobody hears it any more.
  work.reject(new Error('late'));
});
