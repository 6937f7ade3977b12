import { fc } from '@sepia/test-support/property';
import t, { type Test } from 'tap';
import {
  allToldBy,
  hasHolder,
  judgeKnowledge,
  locate,
  silent,
  toldBy,
  type Whereabouts,
} from '../../src/core/where.ts';

const RUNS = 2_000;
const STATES = ['final', 'open', 'none', 'silent'] as const;

function at(originId: string, state: Whereabouts['state'], linked = false): Whereabouts {
  return { originId, state, linked };
}

function idsOf(answers: readonly Whereabouts[], state: Whereabouts['state']): string[] {
  return answers.filter((one) => one.state === state).map((one) => one.originId);
}

/** Answers of up to six in ring order, of whom some are owners: the first, or after a change of the ring any. */
const CASES = fc.record({
  answers: fc
    .array(fc.record({ state: fc.constantFrom(...STATES), linked: fc.boolean() }), { maxLength: 6 })
    .map((all) => all.map(({ state, linked }, index) => at(`o${index}`, state, linked))),
  ownerIds: fc.subarray(['o0', 'o1', 'o2', 'o3', 'o4', 'o5']),
});

/** Judges so many cases, and that so many were judged. */
function judged(
  t: Test,
  check: (answers: readonly Whereabouts[], ownerIds: readonly string[]) => boolean,
): void {
  let runs = 0;
  fc.assert(
    fc.property(CASES, ({ answers, ownerIds }) => {
      runs += 1;
      return check(answers, ownerIds);
    }),
    { numRuns: RUNS },
  );
  t.ok(runs >= RUNS, `${runs} cases`);
}

function isSame(a: readonly string[], b: readonly string[]): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}

t.test('whoever has the whole blob is named, all of them, those with a link first', async (t) => {
  t.same(locate([at('a', 'none'), at('b', 'final'), at('c', 'final', true), at('d', 'open', true)], ['a']), {
    type: 'at',
    state: 'final',
    originIds: ['c', 'b'],
    fetchIds: [],
  });
  judged(t, (answers, ownerIds) => {
    const found = locate(answers, ownerIds);
    const finals = answers.filter((one) => one.state === 'final');
    if (finals.length === 0) return found.type !== 'at' || found.state !== 'final';
    const linked = finals.filter((one) => one.linked);
    const others = finals.filter((one) => !one.linked);
    const expected = [...linked, ...others].map((one) => one.originId);
    return (
      found.type === 'at' &&
      found.state === 'final' &&
      isSame(found.originIds, expected) &&
      found.fetchIds.length === 0
    );
  });
});

t.test('a running fetch is joined, not doubled: others may fetch only after all that do', async (t) => {
  t.same(locate([at('a', 'silent'), at('s', 'none'), at('b', 'none'), at('c', 'open')], ['a', 'b', 'c']), {
    type: 'at',
    state: 'open',
    originIds: ['c'],
    fetchIds: ['b', 's'],
  });
  judged(t, (answers, ownerIds) => {
    const found = locate(answers, ownerIds);
    const isOpen = found.type === 'at' && found.state === 'open';
    const opens = idsOf(answers, 'open');
    if (opens.length === 0 || hasHolder(answers)) return !isOpen;
    return isOpen && isSame(found.originIds, opens);
  });
});

t.test('who may fetch: each that said no, once, owners before stand-ins, in ring order', async (t) => {
  judged(t, (answers, ownerIds) => {
    const { fetchIds } = locate(answers, ownerIds);
    const expected = hasHolder(answers) ? [] : idsOf(answers, 'none');
    const firstOther = fetchIds.findIndex((id) => !ownerIds.includes(id));
    const ofOthers = firstOther === -1 ? [] : fetchIds.slice(firstOther);
    return (
      isSame([...fetchIds].sort(), [...expected].sort()) &&
      ofOthers.every((id) => !ownerIds.includes(id)) &&
      isSame(fetchIds, [
        ...expected.filter((id) => ownerIds.includes(id)),
        ...expected.filter((id) => !ownerIds.includes(id)),
      ])
    );
  });
});

t.test('a blob is absent only when each that could hold it said no', async (t) => {
  t.same(locate([at('a', 'none'), at('b', 'none')], ['a']), { type: 'absent', fetchIds: ['a', 'b'] });
  t.same(locate([at('a', 'none'), at('b', 'silent')], ['b']), { type: 'undecided', fetchIds: ['a'] });
  t.same(locate([at('a', 'silent')], ['a']), { type: 'undecided', fetchIds: [] });
  t.same(locate([], []), { type: 'absent', fetchIds: [] }, 'nobody else could hold it');
  judged(t, (answers, ownerIds) => {
    const { type } = locate(answers, ownerIds);
    return (type === 'absent') === answers.every((one) => one.state === 'none');
  });
});

t.test('silence names nobody, and makes nothing surer than an answer did', async (t) => {
  judged(t, (answers, ownerIds) => {
    const quiet = idsOf(answers, 'silent');
    const found = locate(answers, ownerIds);
    const named = [...(found.type === 'at' ? found.originIds : []), ...found.fetchIds];
    return (
      named.every((id) => !quiet.includes(id)) &&
      answers.every((one, index) => {
        const less = locate(answers.with(index, silent(one.originId)), ownerIds);
        const fewer = [...(less.type === 'at' ? less.originIds : []), ...less.fetchIds];
        return less.type !== 'absent' && !fewer.includes(one.originId);
      })
    );
  });
});

t.test('an answer is read as it is meant to be, or is silence', async (t) => {
  t.same(toldBy('a', { state: 'final', linked: true, sizeBytes: 5, class: 'pushed' }), {
    originId: 'a',
    state: 'final',
    linked: true,
    sizeBytes: 5,
  });
  t.same(toldBy('a', { state: 'none' }), { originId: 'a', state: 'none', linked: false });
  t.same(toldBy('a', { state: 'open', linked: 'yes', sizeBytes: 0 }), {
    originId: 'a',
    state: 'open',
    linked: false,
    sizeBytes: 0,
  });
  const wrong = { state: 'none', linked: false, cameWrong: true } as const;
  t.same(toldBy('a', wrong), { originId: 'a', ...wrong });
  t.notOk('cameWrong' in toldBy('a', { state: 'none', cameWrong: 1 }));
  for (const sizeBytes of [-1, 0.5, Number.NaN, 2 ** 60, '5', null])
    t.notOk('sizeBytes' in toldBy('a', { state: 'open', sizeBytes }), `${sizeBytes} is no size`);
  for (const answer of [{}, { state: 'gone' }, { state: 'silent' }, { state: null }])
    t.same(toldBy('a', answer), silent('a'), 'never a no');
});

t.test('who refuses to say is as silent as who does not answer', async (t) => {
  t.same(
    allToldBy([
      { by: 'a', type: 'answer', answer: at('a', 'none') },
      { by: 'b', type: 'refusal' },
      { by: 'c', type: 'silence' },
    ]),
    [at('a', 'none'), silent('b'), silent('c')],
  );
});

t.test('a silent suspect is not waited for, unless it could hold an acknowledged copy alone', async (t) => {
  const suspects =
    (...ids: string[]) =>
    (id: string): boolean =>
      ids.includes(id);
  const none = [at('a', 'none')];
  t.equal(judgeKnowledge(none, [], suspects(), 2), 'all');
  t.equal(judgeKnowledge(none, ['b'], suspects(), 2), 'little');
  t.equal(judgeKnowledge(none, ['b'], suspects('b'), 2), 'all');
  t.equal(judgeKnowledge(none, ['b', 'c'], suspects('b', 'c'), 2), 'little');
  t.equal(judgeKnowledge(none, ['b'], suspects('b'), 1), 'little');
  t.equal(judgeKnowledge([at('a', 'final', true)], ['b'], suspects(), 2), 'holder');
  t.equal(judgeKnowledge([at('a', 'final', false)], ['b'], suspects(), 2), 'holder');
  t.equal(judgeKnowledge([at('a', 'open', true)], ['b'], suspects(), 2), 'little');
});
