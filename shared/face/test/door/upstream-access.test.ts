import { CodedError } from '@sepia/base/errors';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { AccessAnswer } from '@sepia/cluster/api/access';
import t from 'tap';
import { UpstreamAccess } from '../../src/door/upstream-access.ts';

const NAME = { upstream: 'up', repository: parseRepositoryName('team/app') };
const ITEM = { kind: 'manifest', reference: 'v1' } as const;

t.test('the question is given up with the last who waits for it', async (t) => {
  const asked: { signal: AbortSignal; answer: (answer: AccessAnswer) => void }[] = [];
  const access = new UpstreamAccess({
    ask: (_name, _item, _authorization, signal) =>
      new Promise((resolve, reject) => {
        asked.push({ signal, answer: resolve });
        signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      }),
    nowMs: () => 0,
  });
  const leavers = [new AbortController(), new AbortController()];
  const left = leavers.map(async ({ signal }) => await access.decide(NAME, ITEM, undefined, signal));
  const settled = Promise.allSettled(left);
  leavers[0]!.abort(new CodedError('TIMEOUT'));
  t.notOk(asked[0]!.signal.aborted);
  await t.rejects(left[0]!, { code: 'TIMEOUT' });
  leavers[1]!.abort(new CodedError('TIMEOUT'));
  await settled;
  t.ok(asked[0]!.signal.aborted);
  const public_ = access.decide(NAME, ITEM, undefined, new AbortController().signal);
  t.equal(asked.length, 2);
  asked[1]!.answer({ verdict: 'public', ttlMs: 1_000 });
  t.same(await public_, { verdict: 'public', ttlMs: 1_000 });
  t.ok(access.isKnown(NAME, undefined));
});

t.test(
  'a yes that was asked for before the upstream refused is neither joined nor believed after that',
  async (t) => {
    for (const verdict of ['public', 'granted'] as const) {
      const asked: ((answer: AccessAnswer) => void)[] = [];
      const access = new UpstreamAccess({
        ask: () => new Promise((resolve) => void asked.push(resolve)),
        nowMs: () => 0,
      });
      const never = new AbortController().signal;
      const before = access.decide(NAME, ITEM, 'Bearer a', never);
      access.forget(NAME, 'Bearer a');
      const after = access.decide(NAME, ITEM, 'Bearer a', never);
      t.equal(asked.length, 2, 'asked anew');
      asked[0]!({ verdict, ttlMs: 1_000 });
      await before;
      t.notOk(access.isKnown(NAME, 'Bearer a'));
      asked[1]!({ verdict: 'denied', message: 'no' });
      t.match(await after, { verdict: 'denied' });
      const again = access.decide(NAME, ITEM, 'Bearer a', never);
      asked[2]!({ verdict, ttlMs: 1_000 });
      await again;
      t.ok(access.isKnown(NAME, 'Bearer a'), 'a yes after it counts');
    }
  },
);
