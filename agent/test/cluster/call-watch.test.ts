import { CodedError } from '@sepia/base/errors';
import { FILLED } from '@sepia/http/app';
import type { InternalClient, InternalRequest, InternalResponse } from '@sepia/http/client';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t, { type Test } from 'tap';
import { CallWatch } from '../../src/cluster/members.ts';

const TARGET = { id: 'origin-1', url: 'http://127.0.0.1:1' };
const ANSWER = {
  status: 404,
  headers: {},
  body: { dump: async () => undefined },
} as unknown as InternalResponse;

type Asker = Pick<InternalClient, 'raw'> & { asked: number };

/** Small questions and how they end: with an answer, never, or at once without. */
function asker(how: (asked: number) => 'answer' | 'hang' | 'reset'): Asker {
  const self: Asker = {
    asked: 0,
    raw: async ({ signal }: InternalRequest): Promise<InternalResponse> => {
      self.asked += 1;
      const end = how(self.asked);
      if (end === 'answer') return ANSWER;
      if (end === 'reset') throw new CodedError('PEER_HTTP', { message: 'reset' });
      return await new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
    },
  };
  return self;
}

function watchOf(t: Test, small: Asker): { time: VirtualTime; watch: CallWatch } {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  return { time, watch: new CallWatch(() => performance.now(), small) };
}

const never = (): Promise<never> => new Promise<never>(() => {});

t.test('a member that hangs is given up, however long its call may take', async (t) => {
  const { time, watch } = watchOf(
    t,
    asker(() => 'hang'),
  );
  const others = [TARGET, { id: 'origin-2', url: 'http://127.0.0.1:2' }];
  const stopped = { code: 'PEER_HTTP', message: 'origin-1 stopped answering' };
  await t.rejects(time.settle(watch.watch(TARGET, 80_000, never, 1_500)), stopped);
  t.equal(time.elapsedMs, 6_500);
  t.same(
    watch.order(others).map(({ id }) => id),
    ['origin-2', 'origin-1'],
    'and tried last from then on',
  );
  await t.rejects(time.settle(watch.watch(TARGET, 80_000, never, 1_500)), stopped);
  t.equal(time.elapsedMs, 11_501, 'one that hung just now is asked at once');
});

t.test('a member whose large answers are lost on the way is given up as one that hangs', async (t) => {
  const raw = async ({ headers = {}, signal }: InternalRequest): Promise<InternalResponse> => {
    if (Object.keys(headers).length === 0) return ANSWER;
    t.same(headers, FILLED);
    return await new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
  };
  const { time, watch } = watchOf(t, { asked: 0, raw });
  const call = time.settle(watch.watch(TARGET, 80_000, never, 1_500));
  await t.rejects(call, { code: 'PEER_HTTP', message: 'origin-1 stopped answering' });
  t.equal(time.elapsedMs, 6_500);
});

t.test('questions that fail at once are asked again, for as long', async (t) => {
  const small = asker(() => 'reset');
  const { time, watch } = watchOf(t, small);
  await t.rejects(time.settle(watch.watch(TARGET, 80_000, never, 1_500)), { code: 'PEER_HTTP' });
  t.equal(time.elapsedMs, 6_000);
  t.equal(small.asked, 10);
});

t.test('one that thinks is waited for: it answers small questions, if not each of them', async (t) => {
  for (const how of [
    () => 'answer' as const,
    (asked: number) => (asked % 9 === 0 ? 'answer' : 'reset') as 'answer' | 'reset',
  ]) {
    const { time, watch } = watchOf(t, asker(how));
    const thinks = async (): Promise<string> => {
      await new Promise((resolve) => setTimeout(resolve, 79_000));
      return 'thought';
    };
    t.equal(await time.settle(watch.watch(TARGET, 80_000, thinks, 1_500)), 'thought');
    time.uninstall();
  }
});

t.test('one that others hear of is not asked', async (t) => {
  const small = asker(() => 'hang');
  const { time, watch } = watchOf(t, small);
  const calls = async (): Promise<string> => {
    for (let call = 0; call < 60; call++) {
      await new Promise((resolve) => setTimeout(resolve, 500));
      await watch.watch(TARGET, 80_000, async () => 'other');
    }
    return 'thought';
  };
  t.equal(await time.settle(watch.watch(TARGET, 80_000, calls, 1_500)), 'thought');
  t.equal(small.asked, 0);
});

t.test('what a call fails with is told as it is, and nobody is asked when it was quick', async (t) => {
  const small = asker(() => 'hang');
  const { time, watch } = watchOf(t, small);
  const refusal = new CodedError('MANIFEST_UNKNOWN');
  const refuse = async (): Promise<never> => {
    throw refusal;
  };
  await t.rejects(time.settle(watch.watch(TARGET, 60_000, refuse)), refusal);
  t.equal(small.asked, 0);
});

/** A call that is answered after so long, and how long it took until its member was doubted; undefined if it was not. */
async function doubtedAfterMs(
  { time, watch }: { readonly time: VirtualTime; readonly watch: CallWatch },
  answerMs: number,
): Promise<number | undefined> {
  const sinceMs = time.elapsedMs;
  const doubtedMs: number[] = [];
  const doubt = (): void => void doubtedMs.push(time.elapsedMs - sinceMs);
  const call = async (): Promise<string> => await new Promise((done) => setTimeout(done, answerMs, 'answer'));
  const answer = await time.settle(watch.watchClosely(TARGET, 80_000, call, { doubtMs: 300, doubt }));
  if (answer !== 'answer' || doubtedMs.length > 1) throw new Error(`${answer}, doubted ${doubtedMs}`);
  return doubtedMs[0];
}

t.test('where another answers as well, one that is late with a small question is doubted', async (t) => {
  const small = asker(() => 'hang');
  const { time, watch } = watchOf(t, small);
  t.equal(await doubtedAfterMs({ time, watch }, 20_000), 800, 'and its answer counts all the same');
  t.equal(await doubtedAfterMs({ time, watch }, 700), undefined, 'nobody is doubted that answers before');
  const others = [TARGET, { id: 'origin-2', url: 'http://127.0.0.1:2' }];
  const doubt = (): void => {
    t.same(
      watch.order(others).map(({ id }) => id),
      ['origin-2', 'origin-1'],
      'it is tried last from then on',
    );
  };
  const call = async () => await new Promise<void>((done) => setTimeout(done, 1_000));
  await time.settle(watch.watchClosely(TARGET, 80_000, call, { doubtMs: 300, doubt }));
  t.equal(watch.order(others)[0], TARGET, 'until it answers');
});

t.test('one that fails a small question at once is doubted at once', async (t) => {
  const here = watchOf(
    t,
    asker(() => 'reset'),
  );
  t.equal(await doubtedAfterMs(here, 2_000), 300);
});

t.test('one that was doubted just now is asked at once', async (t) => {
  const { time, watch } = watchOf(
    t,
    asker(() => 'hang'),
  );
  const reset = new CodedError('PEER_HTTP', { message: 'reset' });
  const fails = async () => await new Promise<void>((_, fail) => setTimeout(fail, 1_000, reset));
  const call = watch.watchClosely(TARGET, 80_000, fails, { doubtMs: 300, doubt: () => {} });
  await t.rejects(time.settle(call), reset);
  t.equal(await doubtedAfterMs({ time, watch }, 2_000), 501);
});

t.test('one that has nothing to tell is asked a few times, however many wait for it', async (t) => {
  const small = asker(() => 'answer');
  const { time, watch } = watchOf(t, small);
  const waits = async (): Promise<string> => {
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    return 'nothing new';
  };
  const doubt = (): void => void t.fail('it answers small questions');
  const all = Array.from(
    { length: 30 },
    async () => await watch.watchClosely(TARGET, 80_000, waits, { doubtMs: 300, doubt }),
  );
  t.same(new Set(await time.settle(Promise.all(all))), new Set(['nothing new']));
  t.ok(small.asked <= 6, `${small.asked} questions`);
});

t.test('slow answers to small questions make the next wait longer', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const raw = async (): Promise<InternalResponse> => {
    await new Promise((resolve) => setTimeout(resolve, 700));
    return ANSWER;
  };
  const watch = new CallWatch(() => performance.now(), { raw });
  t.equal(await doubtedAfterMs({ time, watch }, 3_000), 800);
  await time.pass(10_000);
  t.equal(await doubtedAfterMs({ time, watch }, 3_000), undefined);
});

t.test('one that stood still makes the wait longer until the next that answers in time', async (t) => {
  const { time, watch } = watchOf(
    t,
    asker(() => 'hang'),
  );
  const after = (ms: number) => async () => await new Promise<void>((resolve) => setTimeout(resolve, ms));
  for (let lease = 0; lease < 5; lease++) await time.settle(watch.watchQuick(TARGET, 3_000, after(2)));
  await time.settle(watch.watchQuick(TARGET, 3_000, after(2_900)));
  await time.pass(10_000);
  t.equal(await doubtedAfterMs({ time, watch }, 10_000), 1_300);
  await time.settle(watch.watchQuick(TARGET, 3_000, after(2)));
  await time.pass(10_000);
  t.equal(await doubtedAfterMs({ time, watch }, 10_000), 800);
});
