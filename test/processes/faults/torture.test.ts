import t from 'tap';
import { roundsWith } from './rounds-with.ts';

t.test('a proxy that drops a chunk is found out', async (t) => {
  const { code, corrupt, seed } = await roundsWith('chunk-dropped');
  t.equal(code, 1);
  t.ok(corrupt > 0, `${corrupt} wrong bodies`);
  t.equal(seed, 2);
});
