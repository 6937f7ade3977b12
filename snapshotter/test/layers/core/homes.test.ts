import t from 'tap';
import { inTurn, type LayerHome, withFirst, withLast } from '../../../src/layers/core/homes.ts';

const home = (repository: string): LayerHome => ({ host: 'registry.example', repository });
const names = (homes: readonly LayerHome[]): string => homes.map(({ repository }) => repository).join(' ');

t.test('the repository that was seen last is asked first, former ones behind it', async (t) => {
  const two = withFirst([home('a')], home('b'));
  t.equal(names(two), 'b a');
  t.equal(names(withFirst(two, home('a'))), 'a b');
  t.equal(names(withLast(two, home('c'))), 'b a c');
  t.equal(names(withLast(two, home('a'))), 'b a', 'each once');
  t.equal(names(withLast([home('a')], { host: 'other.example', repository: 'a' })), 'a a');
});

t.test('no more than eight are remembered', async (t) => {
  let homes: readonly LayerHome[] = [];
  for (const name of 'abcdefghij') homes = withFirst(homes, home(name));
  t.equal(names(homes), 'j i h g f e d c');
  t.equal(names(withLast(homes, home('z'))), 'j i h g f e d c');
});

t.test('who served last is asked first, where it is one of them still', async (t) => {
  const homes = [home('a'), home('b'), home('c')];
  t.equal(names(inTurn(homes, undefined)), 'a b c');
  t.equal(names(inTurn(homes, home('c'))), 'c a b');
  t.equal(names(inTurn(homes, home('gone'))), 'a b c');
});
