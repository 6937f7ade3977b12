import t from 'tap';
import { fittingThreads } from '../../src/pack/threads.ts';

const MIB = 1024 * 1024;

t.test('one compression thread per core, as far as memory goes, and one at least', async (t) => {
  t.equal(fittingThreads(4, 16 * 1024 * MIB), 4);
  t.equal(fittingThreads(64, 300 * MIB), 3);
  t.equal(fittingThreads(2, 300 * MIB), 2);
  t.equal(fittingThreads(2, 64 * MIB), 1);
});
