import t from 'tap';
import {
  answersOf,
  askAll,
  askEvery,
  askInTurn,
  firstAnswer,
  withoutAnswer,
} from '../../src/async/ask-many.ts';
import { CodedError } from '../../src/errors.ts';
import { onLateBug } from '../../src/failure.ts';

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

t.test('all failed: one that said why it cannot now is believed before one that is silent', async (t) => {
  const silent = new CodedError('PEER_HTTP', { message: 'c is silent' });
  const says: Record<string, CodedError> = { a: new CodedError('QUORUM_LOST'), b: silent, c: silent };
  const ask = async (candidate: string): Promise<string> => await Promise.reject(says[candidate]);
  await t.rejects(firstAnswer(['a', 'b', 'c'], ask, NEVER), { code: 'QUORUM_LOST' });
  await t.rejects(askInTurn(['a', 'b', 'c'], ask), { code: 'QUORUM_LOST' });
  says['b'] = new CodedError('RECORDS_PENDING');
  await t.rejects(firstAnswer(['a', 'b', 'c'], ask, NEVER), { code: 'RECORDS_PENDING' }, 'the last of those');
  says['a'] = says['b'] = new CodedError('BLOB_UNKNOWN');
  await t.rejects(firstAnswer(['a', 'b', 'c'], ask, NEVER), silent, 'who is silent may have it');
  await t.rejects(askInTurn(['a', 'b', 'c'], ask), silent);
});

t.test('a doubt leads to the next beside the first, once, and whoever answers first wins', async (t) => {
  const { calls, ask, asked } = desk();
  const doubts = new Map<string, () => void>();
  const answer = firstAnswer(
    ['a', 'b', 'c'],
    async (candidate, signal, doubt) => {
      doubts.set(candidate, doubt);
      return await ask(candidate, signal);
    },
    NEVER,
  );
  await until(() => asked() === 'a');
  doubts.get('a')!();
  doubts.get('a')!();
  await until(() => asked() === 'ab');
  doubts.get('a')!();
  await new Promise((resolve) => setImmediate(resolve));
  t.equal(asked(), 'ab', 'the next of the first is asked already');
  t.equal(calls.get('a')!.signal.aborted, false);
  doubts.get('b')!();
  await until(() => asked() === 'abc');
  doubts.get('c')!();
  calls.get('a')!.resolve('A');
  t.equal(await answer, 'A');
  t.equal(calls.get('b')!.signal.aborted, true);
  doubts.get('b')!();
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

t.test('all are asked at once; answer, refusal and silence are told apart, in order', async (t) => {
  const { calls, ask, asked } = desk();
  const all = askAll(['a', 'b', 'c'], ask);
  await until(() => calls.has('c'));
  t.equal(asked(), 'abc');
  calls.get('c')!.reject(new CodedError('PEER_HTTP'));
  calls.get('b')!.reject(new CodedError('BLOB_UNKNOWN'));
  calls.get('a')!.resolve('A');
  const said = await all;
  t.same(
    said.map(({ by, type }) => `${by} ${type}`),
    ['a answer', 'b refusal', 'c silence'],
  );
  t.same(answersOf(said), ['A']);
  t.same(withoutAnswer(said), ['b', 'c']);
  t.same(await askAll([], ask), []);
});

t.test('enough is enough: the others are aborted and count as silent', async (t) => {
  const { calls, ask } = desk();
  const isEnough = (said: readonly { readonly type: string }[]): boolean =>
    said.some(({ type }) => type === 'answer');
  const all = askAll(['a', 'b', 'c'], ask, { isEnough });
  await until(() => calls.has('c'));
  calls.get('a')!.reject(new CodedError('BLOB_UNKNOWN'));
  calls.get('b')!.resolve('B');
  t.same(
    (await all).map(({ type }) => type),
    ['refusal', 'answer', 'silence'],
  );
  t.ok(calls.get('c')!.signal.aborted);
});

t.test('enough in a moment: those that are still out have that long', async (t) => {
  const { calls, ask } = desk();
  const all = askAll(['a', 'b'], ask, { isEnough: () => 5 });
  await until(() => calls.has('b'));
  calls.get('a')!.resolve('A');
  t.same(
    (await all).map(({ type }) => type),
    ['answer', 'silence'],
  );
});

t.test('so long at most, whether anybody said something or not', async (t) => {
  const { calls, ask } = desk();
  const none = askAll(['a', 'b'], ask, { mostMs: 5 });
  await until(() => calls.has('b'));
  t.same(
    (await none).map(({ type }) => type),
    ['silence', 'silence'],
  );
  t.ok([...calls.values()].every((call) => call.signal.aborted));
  const some = askAll(['c', 'd'], ask, { mostMs: 5, isEnough: () => 60_000 });
  await until(() => calls.has('d'));
  calls.get('c')!.resolve('C');
  t.same(answersOf(await some), ['C']);
});

t.test('a few at first: the others only when these are not enough', async (t) => {
  const isEnough = (said: readonly { readonly type: string }[]): boolean =>
    said.filter(({ type }) => type === 'answer').length === 2;
  const first = { count: 2, hedgeAfterMs: 60_000 };
  const fine = desk();
  const answered = askAll(['a', 'b', 'c'], fine.ask, { first, isEnough });
  await until(() => fine.calls.has('b'));
  fine.calls.get('a')!.resolve('A');
  fine.calls.get('b')!.resolve('B');
  t.same(answersOf(await answered), ['A', 'B']);
  t.equal(fine.asked(), 'ab');
  const refused = desk();
  const instead = askAll(['a', 'b', 'c'], refused.ask, { first, isEnough });
  await until(() => refused.calls.has('b'));
  refused.calls.get('b')!.reject(new CodedError('RECORDS_PENDING'));
  await until(() => refused.calls.has('c'));
  refused.calls.get('a')!.resolve('A');
  refused.calls.get('c')!.resolve('C');
  t.same(answersOf(await instead), ['A', 'C']);
  const few = desk();
  const all = askAll(['a', 'b', 'c'], few.ask, { first, isEnough: (said) => said.length === 3 });
  await until(() => few.calls.has('b'));
  few.calls.get('a')!.resolve('A');
  few.calls.get('b')!.resolve('B');
  await until(() => few.calls.has('c'));
  few.calls.get('c')!.resolve('C');
  t.same(answersOf(await all), ['A', 'B', 'C']);
});

t.test('a few at first: one that is silent is not waited for', async (t) => {
  const { calls, ask } = desk();
  const isEnough = (said: readonly unknown[]): boolean => said.length === 2;
  const all = askAll(['a', 'b', 'c'], ask, { first: { count: 2, hedgeAfterMs: 1 }, isEnough });
  await until(() => calls.has('c'));
  calls.get('a')!.resolve('A');
  calls.get('c')!.resolve('C');
  t.same(answersOf(await all), ['A', 'C']);
});

t.test('a bug of one of all, or of the rule, is thrown; so is the reason of the signal', async (t) => {
  const bug = new TypeError('undefined is no function');
  const answers = async (name: string): Promise<string> => {
    if (name === 'b') throw bug;
    return name;
  };
  await t.rejects(askAll(['a', 'b'], answers), bug);
  const wrongRule = (): boolean => {
    throw bug;
  };
  await t.rejects(askAll(['a'], answers, { isEnough: wrongRule }), bug);
  const { calls, ask } = desk();
  const stop = new AbortController();
  const all = askAll(['a'], ask, { signal: stop.signal });
  await until(() => calls.has('a'));
  stop.abort(new CodedError('DRAINING'));
  await t.rejects(all, { code: 'DRAINING' });
  t.ok(calls.get('a')!.signal.aborted);
  await t.rejects(askAll(['a'], ask, { signal: stop.signal }), { code: 'DRAINING' });
});

t.test('a bug that comes when the answer is known is counted and told', async (t) => {
  const told: unknown[] = [];
  t.teardown(onLateBug((bug) => told.push(bug)));
  const bug = new TypeError('undefined is no function');
  for (const run of ['first', 'all'] as const) {
    const { calls, ask } = desk();
    const done =
      run === 'first'
        ? firstAnswer(['a', 'b'], ask, { hedgeAfterMs: 1 })
        : askAll(['a', 'b'], ask, { isEnough: (said) => said.length === 1 });
    await until(() => calls.has('b'));
    calls.get('a')!.resolve('A');
    await done;
    calls.get('b')!.reject(bug);
    await until(() => told.length === (run === 'first' ? 1 : 2));
  }
  t.same(told, [bug, bug]);
});

t.test('one after the other, until one answers or says what is final', async (t) => {
  const asked: string[] = [];
  const says = (answers: Record<string, string | Error>) => async (name: string) => {
    asked.push(name);
    const answer = answers[name]!;
    if (typeof answer !== 'string') throw answer;
    return answer;
  };
  const silent = new CodedError('PEER_HTTP');
  t.equal(await askInTurn(['a', 'b', 'c'], says({ a: silent, b: 'B' })), 'B');
  t.same(asked, ['a', 'b']);
  await t.rejects(askInTurn(['a', 'b'], says({ a: silent, b: new CodedError('OVERLOADED') })), {
    code: 'OVERLOADED',
  });
  await t.rejects(askInTurn([], says({})), { code: 'NO_PEERS' });
  const isFinal = (error: unknown): boolean => error === silent;
  asked.length = 0;
  await t.rejects(askInTurn(['a', 'b'], says({ a: silent, b: 'B' }), { isFinal }), silent);
  const bug = new TypeError('undefined is no function');
  await t.rejects(askInTurn(['a', 'b'], says({ a: bug, b: 'B' })), bug);
  t.same(asked, ['a', 'a'], 'nobody after it');
  const signal = AbortSignal.abort(new CodedError('DRAINING'));
  await t.rejects(askInTurn(['b'], says({ b: 'B' }), { signal }), { code: 'DRAINING' });
});

t.test('where every one has to answer, the first that does not ends it', async (t) => {
  const { calls, ask } = desk();
  const all = askEvery(['a', 'b', 'c'], ask);
  await until(() => calls.has('c'));
  calls.get('b')!.reject(new CodedError('OVERLOADED'));
  await t.rejects(all, { code: 'OVERLOADED' });
  t.ok(calls.get('a')!.signal.aborted);
  t.same(await askEvery(['a', 'b'], async (name) => name.toUpperCase()), ['A', 'B']);
});
