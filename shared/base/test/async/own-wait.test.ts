import { VirtualTime } from '@sepia/test-support/virtual-time';
import t from 'tap';
import { afterOwnMs, ownPause } from '../../src/async/own-wait.ts';

const NEVER = new AbortController().signal;

/** Holds the thread: nothing else of this process runs. */
function blockMs(ms: number): void {
  for (const untilMs = performance.now() + ms; performance.now() < untilMs; );
}

t.test('takes the time it is told, and ends early with its signal', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  t.equal(await time.settle(ownPause(1_234, NEVER)), true);
  t.equal(time.elapsedMs, 1_234);
  const over = new AbortController();
  const waiting = ownPause(1_000, over.signal);
  await time.pass(300);
  over.abort();
  t.equal(await time.settle(waiting), false);
  t.equal(await time.settle(ownPause(0, over.signal)), false);
});

t.test('gives up after its time, or not at all once the answer is known', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const gaveUp: string[] = [];
  const answered = afterOwnMs(100, () => gaveUp.push('answered'));
  afterOwnMs(200, () => gaveUp.push('silent'));
  await time.pass(99);
  answered();
  await time.pass(500);
  t.same(gaveUp, ['silent']);
});

t.test('an answer that came while this process was busy is seen first', async (t) => {
  const answered = new Promise<string>((resolve) => setTimeout(resolve, 60, 'answer'));
  const verdict = ownPause(40, NEVER).then(() => 'silence');
  blockMs(100);
  t.equal(await Promise.race([answered, verdict]), 'answer');
});
