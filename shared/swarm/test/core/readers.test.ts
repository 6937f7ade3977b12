import t from 'tap';
import { Readers } from '../../src/core/readers.ts';

t.test('a reader waits for the swarm from when the hash of its piece is known', async (t) => {
  const known = new Set<number>();
  const readers = new Readers((index) => known.has(index));
  readers.set(0, 3, 9, 100);
  t.equal(readers.waitedMs(3, 400), -1, 'the upstream is waited for');
  readers.learnHashes(450);
  t.equal(readers.waitedMs(3, 500), -1, 'the hash of another piece');
  known.add(3);
  readers.learnHashes(600);
  t.equal(readers.waitedMs(3, 700), 100);
  readers.learnHashes(800);
  t.equal(readers.waitedMs(3, 900), 300, 'later hashes do not begin its wait anew');
});
