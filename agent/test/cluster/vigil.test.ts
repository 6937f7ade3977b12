import { CodedError } from '@sepia/base/errors';
import { outOfFiles } from '@sepia/base/system/open-files';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t, { type Test } from 'tap';
import { Vigil } from '../../src/cluster/vigil.ts';
import { HEARD_MS } from '../../src/deadlines.ts';
import { silentMsOf } from '../../src/source/core/silence.ts';

const MEMBERS = ['proxy-1', 'tracker-1', 'origin-1', 'origin-2', 'origin-3'].map((id) => ({ id }));
const OTHERS = ['tracker-2', 'origin-4'].map((id) => ({ id }));
const NEVER = new AbortController().signal;

/** Members that answer small questions after so many ms; never is for ever. */
function keep(t: Test, answersAfterMs: (id: string) => number) {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const asked: string[] = [];
  const vigil = new Vigil<{ readonly id: string }>({
    nowMs: () => performance.now(),
    heardWithin: () => false,
    ask: async ({ id }, signal) => {
      asked.push(id);
      await new Promise<void>((resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason));
        const answer = (): void => (answersAfterMs(id) > 0 ? resolve() : undefined);
        if (Number.isFinite(answersAfterMs(id))) setTimeout(answer, answersAfterMs(id));
      });
    },
  });
  t.teardown(() => vigil.stop());
  return { time, vigil, asked };
}

const hangs = async (): Promise<never> => await new Promise<never>(() => {});

t.test('members that all hang are found out in one time, and the work is ended', async (t) => {
  const { time, vigil, asked } = keep(t, () => Number.POSITIVE_INFINITY);
  let ended: unknown;
  const work = async (signal: AbortSignal): Promise<never> => {
    signal.addEventListener('abort', () => {
      ended = signal.reason;
    });
    return await hangs();
  };
  const failure = await time.settle(vigil.attend(MEMBERS, work, NEVER)).catch((error: unknown) => error);
  t.match(failure, { code: 'NO_PEERS' });
  t.equal(time.elapsedMs, 4_501);
  t.equal(silentMsOf(failure), 4_500);
  t.same(
    asked.slice(0, MEMBERS.length),
    MEMBERS.map(({ id }) => id),
    'all were asked',
  );
  t.match(ended, { code: 'NO_PEERS' });

  await t.rejects(time.settle(vigil.attend(MEMBERS, hangs, NEVER)), { code: 'NO_PEERS' });
  t.equal(time.elapsedMs, 4_502, 'who comes later knows at once');
  await t.rejects(time.settle(vigil.attend(OTHERS, hangs, NEVER)), { code: 'NO_PEERS' });
  t.equal(time.elapsedMs, 7_504, 'others are asked at once');
});

t.test('as long as one of them answers, however late, the work is waited for', async (t) => {
  const { time, vigil } = keep(t, (id) => (id === 'origin-3' ? 2_500 : Number.POSITIVE_INFINITY));
  const thinks = async (): Promise<string> => {
    await new Promise((resolve) => setTimeout(resolve, 79_000));
    return 'thought';
  };
  t.equal(await time.settle(vigil.attend(MEMBERS, thinks, NEVER)), 'thought');
});

t.test('who has no socket left to ask with concludes nothing of others', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const vigil = new Vigil<{ readonly id: string }>({
    nowMs: () => performance.now(),
    heardWithin: () => false,
    ask: async () => {
      throw outOfFiles(Object.assign(new Error('connect EMFILE'), { code: 'EMFILE' }));
    },
  });
  t.teardown(() => vigil.stop());
  const thinks = async (): Promise<string> => {
    await new Promise((resolve) => setTimeout(resolve, 79_000));
    return 'thought';
  };
  t.equal(await time.settle(vigil.attend(MEMBERS, thinks, NEVER)), 'thought');
});

t.test('who answered anything since it was first asked in vain is not silent', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const vigil = new Vigil<{ readonly id: string }>({
    nowMs: () => performance.now(),
    // Other calls of one of them are answered, each too long ago to spare it the question.
    heardWithin: (id, ms) => id === 'origin-2' && ms > HEARD_MS,
    ask: async (_, signal) =>
      await new Promise<void>((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason));
      }),
  });
  t.teardown(() => vigil.stop());
  const thinks = async (): Promise<string> => {
    await new Promise((resolve) => setTimeout(resolve, 79_000));
    return 'thought';
  };
  t.equal(await time.settle(vigil.attend(MEMBERS, thinks, NEVER)), 'thought');
});

t.test('members that come back are waited for again', async (t) => {
  let isBack = false;
  const { time, vigil } = keep(t, () => (isBack ? 1 : Number.POSITIVE_INFINITY));
  await t.rejects(time.settle(vigil.attend(MEMBERS, hangs, NEVER)), { code: 'NO_PEERS' });
  isBack = true;
  await time.settle(new Promise((resolve) => setTimeout(resolve, 6_000)));
  const quick = async (): Promise<string> => {
    await new Promise((resolve) => setTimeout(resolve, 20_000));
    return 'answer';
  };
  t.equal(await time.settle(vigil.attend(MEMBERS, quick, NEVER)), 'answer');
});

t.test('a quick answer asks nobody; nor does what fails, or a client that leaves', async (t) => {
  const { time, vigil, asked } = keep(t, () => Number.POSITIVE_INFINITY);
  t.equal(await time.settle(vigil.attend(MEMBERS, async () => 'answer', NEVER)), 'answer');
  const refusal = new CodedError('MANIFEST_UNKNOWN');
  const refuse = async (): Promise<never> => {
    throw refusal;
  };
  await t.rejects(time.settle(vigil.attend(MEMBERS, refuse, NEVER)), refusal);
  const client = new AbortController();
  const left = async (signal: AbortSignal): Promise<never> =>
    await new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  const leaving = vigil.attend(MEMBERS, left, client.signal);
  client.abort(new CodedError('TIMEOUT'));
  await t.rejects(time.settle(leaving), { code: 'TIMEOUT' });
  t.same(asked, []);
});
