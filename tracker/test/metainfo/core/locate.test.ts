import t from 'tap';
import { chooseOrigins } from '../../../src/metainfo/core/locate.ts';

const owners = ['o1', 'o2', 'o3'];
const say = (...states: ('final' | 'open' | 'none' | 'silent')[]) =>
  states.map((state, at) => ({ originId: `o${at + 1}`, state }));

t.test('whoever has the whole blob comes before whoever fetches it', async (t) => {
  t.same(chooseOrigins(say('open', 'silent', 'final', 'final'), owners), {
    type: 'holders',
    originIds: ['o3', 'o4'],
    state: 'final',
  });
});

t.test('a running fetch is joined, not doubled', async (t) => {
  t.same(chooseOrigins(say('none', 'open', 'none'), owners), {
    type: 'holders',
    originIds: ['o2'],
    state: 'open',
  });
});

t.test('the first owner that answers is to fetch; a stand-in comes last', async (t) => {
  t.same(chooseOrigins(say('silent', 'none', 'none', 'none'), owners), {
    type: 'fetch',
    originIds: ['o2', 'o3', 'o4'],
  });
});

t.test('nobody answers: nobody is named', async (t) => {
  t.same(chooseOrigins(say('silent', 'silent'), owners), { type: 'fetch', originIds: [] });
});
