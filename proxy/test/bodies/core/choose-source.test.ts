import type { Whereabouts } from '@sepia/cluster/core/where';
import t from 'tap';
import { chooseSource } from '../../../src/bodies/core/choose-source.ts';

function at(originId: string, state: Whereabouts['state'], linked = false, sizeBytes?: number): Whereabouts {
  return { originId, state, linked, ...(sizeBytes === undefined ? {} : { sizeBytes }) };
}

t.test('who has the whole blob is asked, those with a link first', async (t) => {
  const plan = chooseSource(
    [at('a', 'none'), at('b', 'final', false, 5), at('c', 'final', true, 5), at('d', 'open', true)],
    ['a', 'b', 'c'],
  );
  t.same(plan, { type: 'holders', originIds: ['c', 'b'], sizeBytes: 5, isDefinite: true });
});

t.test('a whole blob without a link is no certainty', async (t) => {
  const plan = chooseSource([at('a', 'final', false, 9)], ['a']);
  t.same(plan, { type: 'holders', originIds: ['a'], isDefinite: false }, 'and its size is not told');
});

t.test('else whoever fetches it, then owners before stand-ins; the silent are left out', async (t) => {
  const plan = chooseSource(
    [at('a', 'silent'), at('s', 'none'), at('b', 'none'), at('c', 'open', true, 7)],
    ['a', 'b', 'c'],
  );
  t.same(plan, { type: 'leader', originIds: ['c', 'b', 's'], sizeBytes: 7, isDefinite: false });
});

t.test('nobody answered: undefined', async (t) => {
  t.equal(chooseSource([at('a', 'silent')], ['a']), undefined);
  t.equal(chooseSource([], []), undefined);
});

t.test('one whose fetch came out wrong tells it, whoever has the blob', async (t) => {
  const plan = chooseSource([at('a', 'final', true, 5), { ...at('b', 'none'), cameWrong: true }], ['a', 'b']);
  t.same(plan, { type: 'holders', originIds: ['a'], sizeBytes: 5, isDefinite: true, cameWrong: true });
});
