import t from 'tap';
import { firstAnswer } from '../../src/async/hedge.ts';
import { CodedError } from '../../src/errors.ts';

/** Candidates whose answers the test decides; notes who was asked and whose call was aborted. */
function desk() {
  const calls = new Map<
    string,
    { resolve: (value: string) => void; reject: (error: unknown) => void; signal: AbortSignal }
  >();
  const ask = (candidate: string, signal: AbortSignal): Promise<string> =>
    new Promise((resolve, reject) => {
      calls.set(candidate, { resolve, reject, signal });
    });
  return { calls, ask, asked: () => [...calls.keys()].join('') };
}

async function until(what: () => boolean): Promise<void> {
  const deadlineMs = Date.now() + 5_000;
  while (!what()) {
    if (Date.now() > deadlineMs) throw new Error('did not happen');
    await new Promise((resolve) => setImmediate(resolve));
  }
}

const NEVER = { hedgeAfterMs: 60_000 };

t.test('the first that answers wins, the others are never asked', async (t) => {
  const { calls, ask, asked } = desk();
  const answer = firstAnswer(['a', 'b'], ask, NEVER);
  await until(() => calls.has('a'));
  calls.get('a')!.resolve('A');
  t.equal(await answer, 'A');
  t.equal(asked(), 'a');
});

t.test('a failure leads to the next at once; all failed: the last error', async (t) => {
  const { calls, ask } = desk();
  const answer = firstAnswer(['a', 'b'], ask, NEVER);
  await until(() => calls.has('a'));
  calls.get('a')!.reject(new Error('a is down'));
  await until(() => calls.has('b'));
  calls.get('b')!.reject(new Error('b is down'));
  await t.rejects(answer, { message: 'b is down' });
});

t.test('silence leads to the next beside the first; the loser is aborted, the winner is not', async (t) => {
  const { calls, ask, asked } = desk();
  const answer = firstAnswer(['a', 'b', 'c'], ask, { hedgeAfterMs: 5 });
  await until(() => asked() === 'abc');
  calls.get('b')!.resolve('B');
  t.equal(await answer, 'B');
  t.same(
    ['a', 'b', 'c'].map((one) => calls.get(one)!.signal.aborted),
    [true, false, true],
  );
  t.equal(calls.get('a')!.signal.reason.code, 'TIMEOUT');
  calls.get('c')!.resolve('C, in spite of the abort');
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(calls.get('b')!.signal.aborted, false, 'a late second answer does not cut the winner');
});

t.test('a final answer is believed at once and ends the others', async (t) => {
  const { calls, ask, asked } = desk();
  const answer = firstAnswer(['a', 'b', 'c'], ask, {
    hedgeAfterMs: 5,
    isFinal: (error) => (error as CodedError).code === 'BLOB_UNKNOWN',
  });
  await until(() => asked().startsWith('ab'));
  calls.get('a')!.reject(new CodedError('BLOB_UNKNOWN'));
  await t.rejects(answer, { code: 'BLOB_UNKNOWN' });
  t.ok(calls.get('b')!.signal.aborted);
});

t.test('an abort rejects with its reason and ends all that run', async (t) => {
  const { calls, ask, asked } = desk();
  const abort = new AbortController();
  const answer = firstAnswer(['a', 'b'], ask, { hedgeAfterMs: 5, signal: abort.signal });
  await until(() => asked() === 'ab');
  const reason = new Error('enough');
  abort.abort(reason);
  await t.rejects(answer, reason);
  t.same(
    [...calls.values()].map(({ signal }) => signal.reason),
    [reason, reason],
  );
  await t.rejects(firstAnswer(['a'], ask, { ...NEVER, signal: abort.signal }), reason);
});

t.test('an ask that throws at once counts as failed', async (t) => {
  const ask = (candidate: string): Promise<string> => {
    if (candidate !== 'c') throw new Error(`${candidate} threw`);
    return Promise.resolve('C');
  };
  t.equal(await firstAnswer(['a', 'b', 'c'], ask, NEVER), 'C');
  await t.rejects(firstAnswer(['a', 'b'], ask, NEVER), { message: 'b threw' });
});

t.test('nobody to ask', async (t) => {
  await t.rejects(
    firstAnswer([], async () => 'x', NEVER),
    { code: 'NO_PEERS' },
  );
});

t.test('a bug ends it at once: it is no answer of a candidate', async (t) => {
  const asked: string[] = [];
  const ask = async (candidate: string): Promise<string> => {
    asked.push(candidate);
    throw new TypeError('wrong code');
  };
  await t.rejects(firstAnswer(['a', 'b', 'c'], ask, { hedgeAfterMs: 1_000 }), TypeError);
  t.same(asked, ['a']);
});
