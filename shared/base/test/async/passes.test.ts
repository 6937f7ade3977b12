import t from 'tap';
import { Passes } from '../../src/async/passes.ts';
import { CodedError } from '../../src/errors.ts';
import { bugsSeen } from '../../src/failure.ts';
import { createLogger } from '../../src/log.ts';
import { Metrics } from '../../src/metrics.ts';

/** A clock that stands still until the test lets a rest end. */
class Clock {
  readonly rests: number[] = [];
  #end: () => void = () => {};
  #now = 0;

  readonly nowMs = (): number => this.#now;

  readonly rest = async (ms: number, signal: AbortSignal): Promise<void> => {
    this.rests.push(ms);
    if (signal.aborted) return;
    await new Promise<void>((resolve) => {
      this.#end = resolve;
      signal.addEventListener('abort', () => resolve(), { once: true });
    });
  };

  /** The whole of the rest passes. */
  pass(): void {
    this.#end();
  }

  take(ms: number): void {
    this.#now += ms;
  }
}

/** Turns of the event loop: what waits for nothing but promises is done. */
async function turns(): Promise<void> {
  for (let at = 0; at < 5; at++) await new Promise((resolve) => setImmediate(resolve));
}

/** A loop whose passes the test ends. */
function world(options: Partial<ConstructorParameters<typeof Passes>[0]> = {}) {
  const clock = new Clock();
  const lines: { level: string; message: string; bug?: boolean }[] = [];
  const line =
    (level: string) =>
    (facts: { bug?: boolean }, message: string): void => {
      lines.push({ level, message, ...(facts.bug === undefined ? {} : { bug: facts.bug }) });
    };
  const log = Object.assign(createLogger('test', 't', 'silent'), {
    debug: line('debug'),
    warn: line('warn'),
    error: line('error'),
  });
  const passes: { end: () => void; fail: (error: unknown) => void; signal: AbortSignal }[] = [];
  const loop = new Passes({
    name: 'test',
    pass: async (signal) =>
      await new Promise((resolve, reject) => passes.push({ end: resolve, fail: reject, signal })),
    rest: () => 100,
    log,
    failed: 'not looked through',
    clock,
    ...options,
  });
  return { clock, lines, passes, loop };
}

t.test('a pass, a rest, the next pass; never two at once', async (t) => {
  const { clock, passes, loop } = world();
  loop.start();
  loop.start();
  await turns();
  t.equal(passes.length, 1);
  t.same(clock.rests, [], 'no rest before the first');
  passes[0]!.end();
  await turns();
  t.same(clock.rests, [100]);
  t.equal(passes.length, 1);
  clock.pass();
  await turns();
  t.equal(passes.length, 2);
  passes[1]!.end();
  await loop.stop();
  t.equal(passes.length, 2);
});

t.test('it may rest before the first pass', async (t) => {
  const { clock, passes, loop } = world({ firstMs: 7 });
  loop.start();
  await turns();
  t.same(clock.rests, [7]);
  t.equal(passes.length, 0);
  clock.pass();
  await turns();
  t.equal(passes.length, 1);
  passes[0]!.end();
  await loop.stop();
});

t.test('no wake is lost: it ends the rest, or that after the pass under way', async (t) => {
  const { clock, passes, loop } = world({ firstMs: 7 });
  loop.start();
  loop.wake();
  await turns();
  t.equal(passes.length, 1, 'before the first pass');
  loop.wake();
  passes[0]!.end();
  await turns();
  t.equal(passes.length, 2, 'while one runs');
  passes[1]!.end();
  await turns();
  t.equal(passes.length, 2);
  loop.wake();
  await turns();
  t.equal(passes.length, 3, 'while it rests');
  t.same(clock.rests, [7, 100, 100]);
  passes[2]!.end();
  await loop.stop();
});

t.test('the deaf part of a rest passes whoever wakes it', async (t) => {
  const { clock, passes, loop } = world({ rest: () => ({ ms: 100, deafMs: 30 }) });
  loop.start();
  await turns();
  loop.wake();
  passes[0]!.end();
  await turns();
  loop.wake();
  await turns();
  t.equal(passes.length, 1);
  clock.pass();
  await turns();
  t.equal(passes.length, 2);
  t.same(clock.rests, [30, 70], 'the rest of the rest ended at once');
  passes[1]!.end();
  await turns();
  await loop.stop();
  t.same(clock.rests, [30, 70, 30], 'a stop ends the deaf part, too');
});

t.test('a stop aborts the pass under way and waits for it; nothing begins afterwards', async (t) => {
  const { clock, passes, loop, lines } = world();
  loop.start();
  await turns();
  let isOver = false;
  const stopping = loop.stop(new CodedError('TIMEOUT')).then(() => {
    isOver = true;
  });
  await turns();
  t.equal(passes[0]!.signal.aborted, true);
  t.match(loop.signal.reason, { code: 'TIMEOUT' });
  t.equal(isOver, false);
  passes[0]!.fail(passes[0]!.signal.reason);
  await stopping;
  await loop.stop();
  loop.start();
  loop.wake();
  await turns();
  t.equal(passes.length, 1);
  t.same(clock.rests, []);
  t.same(lines, [], 'that it was stopped is no failure');
});

t.test('a loop that never started, or rests, stops at once', async (t) => {
  const never = world();
  await never.loop.stop();
  never.loop.start();
  await turns();
  t.equal(never.passes.length, 0);
  const resting = world({ firstMs: 7 });
  resting.loop.start();
  await resting.loop.stop();
  t.equal(resting.passes.length, 0);
});

t.test('whatever ends a pass ends no other', async (t) => {
  const { clock, passes, loop, lines } = world({
    level: 'debug',
    rest: ({ isFailed }) => (isFailed ? 5 : 9),
  });
  loop.start();
  await turns();
  passes[0]!.fail(new CodedError('NO_PEERS'));
  await turns();
  t.same(lines, [{ level: 'debug', message: 'not looked through' }]);
  clock.pass();
  await turns();
  const bugs = bugsSeen();
  passes[1]!.fail(new TypeError('of our own'));
  await turns();
  t.same(lines.slice(1), [{ level: 'error', message: 'not looked through', bug: true }]);
  t.equal(bugsSeen(), bugs + 1);
  clock.pass();
  await turns();
  t.equal(passes.length, 3);
  t.same(clock.rests, [5, 5]);
  const stopping = loop.stop();
  passes[2]!.fail(new RangeError('of our own, while it stops'));
  await stopping;
  t.equal(lines.length, 3, 'a bug is told of in any case');
});

t.test('no rest is so short that the loop spins, and none is longer than timers take', async (t) => {
  const odd = [0, -5, Number.NaN, Number.NEGATIVE_INFINITY, 0.2, Number.POSITIVE_INFINITY, 1e20];
  const { clock, passes, loop } = world({ rest: () => odd[passes.length - 1]! });
  loop.start();
  for (const at of odd.keys()) {
    await turns();
    passes[at]!.end();
    await turns();
    clock.pass();
  }
  const most = 2 ** 31 - 1;
  t.same(clock.rests, [1, 1, 1, 1, 1, most, most]);
  await turns();
  const stopping = loop.stop();
  passes.at(-1)!.end();
  await stopping;
});

t.test('a rest that cannot be computed is a minute, and a bug', async (t) => {
  const { clock, passes, loop, lines } = world({
    rest: () => {
      throw new TypeError('of our own');
    },
  });
  loop.start();
  await turns();
  passes[0]!.end();
  await turns();
  t.same(clock.rests, [60_000]);
  t.match(lines, [{ level: 'error', bug: true }]);
  await loop.stop();
});

t.test('a rest may begin when there is something to do', async (t) => {
  let there: () => void = () => {};
  const { clock, passes, loop, lines } = world({
    rest: async (_last, signal) =>
      await new Promise((resolve, reject) => {
        there = () => resolve(40);
        signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      }),
  });
  loop.start();
  await turns();
  passes[0]!.end();
  await turns();
  t.same(clock.rests, []);
  there();
  await turns();
  t.same(clock.rests, [40]);
  clock.pass();
  await turns();
  passes[1]!.end();
  await turns();
  await loop.stop();
  t.same([clock.rests, lines], [[40], []]);
});

t.test('metrics tell how the last pass of each loop ended', async (t) => {
  const { clock, passes, loop } = world({ name: 'told' });
  const metrics = new Metrics('test', 't');
  loop.start();
  await turns();
  clock.take(1_500);
  passes[0]!.fail(new CodedError('NO_PEERS'));
  await turns();
  const text = await metrics.registry.metrics();
  t.match(text, /^sepia_pass_seconds\{loop="told",.*\} 1\.5$/m);
  t.match(text, /^sepia_pass_failed\{loop="told",.*\} 1$/m);
  clock.pass();
  await turns();
  passes[1]!.end();
  await turns();
  t.match(await metrics.registry.metrics(), /^sepia_pass_failed\{loop="told",.*\} 0$/m);
  await loop.stop();
});
