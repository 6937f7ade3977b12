import { mock } from 'node:test';
import t, { type Test } from 'tap';
import { FreshFlight } from '../../src/async/fresh-flight.ts';

const NEVER = new AbortController().signal;
const WAIT_MS = 1_000;

/** Runs that end when the test says so. */
function flight() {
  const flights = new FreshFlight<string, number>({ waitMs: WAIT_MS });
  const begun: { resolve: (value: number) => void; reject: (error: unknown) => void; signal: AbortSignal }[] =
    [];
  const ask = (signal = NEVER, key = 'a'): Promise<number> =>
    flights.run(
      key,
      async (running) =>
        await new Promise((resolve, reject) => {
          begun.push({ resolve, reject, signal: running });
          running.addEventListener('abort', () => reject(running.reason), { once: true });
        }),
      signal,
    );
  return { ask, begun };
}

async function turns(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
}

function clock(t: Test): void {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
}

t.test(
  'thousands that ask at once cost two runs, and nobody gets what had begun before they asked',
  async (t) => {
    clock(t);
    const { ask, begun } = flight();
    const first = ask();
    const others = Array.from({ length: 2_000 }, () => ask());
    await turns();
    t.equal(begun.length, 1);
    begun[0]!.resolve(1);
    t.equal(await first, 1);
    await turns();
    t.equal(begun.length, 2, 'all others together');
    const late = ask();
    begun[1]!.resolve(2);
    t.same(new Set(await Promise.all(others)), new Set([2]));
    await turns();
    t.equal(begun.length, 3, 'who came while the second run was under way');
    begun[2]!.resolve(3);
    t.equal(await late, 3);
    const after = ask();
    await turns();
    begun[3]!.resolve(4);
    t.equal(await after, 4, 'nothing is kept');
  },
);

t.test('a run that is slow is not waited for: the next begins beside it', async (t) => {
  clock(t);
  const { ask, begun } = flight();
  const slow = ask();
  const second = ask();
  await turns();
  mock.timers.tick(WAIT_MS - 1);
  await turns();
  t.equal(begun.length, 1);
  mock.timers.tick(1);
  await turns();
  t.equal(begun.length, 2);
  const third = ask();
  begun[1]!.resolve(2);
  t.equal(await second, 2);
  await turns();
  begun[2]!.resolve(3);
  t.equal(await third, 3);
  begun[0]!.resolve(1);
  t.equal(await slow, 1);
});

t.test('a failure is that of its run alone, and other keys are others', async (t) => {
  clock(t);
  const { ask, begun } = flight();
  const first = ask();
  const second = ask();
  const elsewhere = ask(NEVER, 'b');
  await turns();
  t.equal(begun.length, 2);
  begun[1]!.resolve(9);
  t.equal(await elsewhere, 9);
  begun[0]!.reject(new Error('failed'));
  await t.rejects(first, { message: 'failed' });
  await turns();
  begun[2]!.resolve(2);
  t.equal(await second, 2);
});

t.test('who leaves ends it for nobody else; a run that nobody waits for is aborted', async (t) => {
  clock(t);
  const { ask, begun } = flight();
  const gone = [new AbortController(), new AbortController()];
  const first = ask();
  const [one, other] = gone.map(({ signal }) => ask(signal));
  const stays = ask();
  gone[0]!.abort(new Error('one leaves'));
  await t.rejects(one!, { message: 'one leaves' });
  begun[0]!.resolve(1);
  await first;
  await turns();
  gone[1]!.abort(new Error('other leaves'));
  await t.rejects(other!, { message: 'other leaves' });
  begun[1]!.resolve(2);
  t.equal(await stays, 2);
  const alone = new AbortController();
  const last = ask(alone.signal);
  await turns();
  alone.abort(new Error('last leaves'));
  await t.rejects(last, { message: 'last leaves' });
  t.ok(begun[2]!.signal.aborted);
});
