import { SEED } from '@sepia/test-support/seeded';
import t from 'tap';
import { simulate, simulateKraken } from '../src/index.ts';

const NET = {
  origins: 5,
  rateBytesPerSec: 300e6,
  originRateBytesPerSec: 300e6,
  untilMs: 600_000,
  seed: SEED,
};

t.test('all get the blob, slower than the line and not twice; the same seed, the same run', async (t) => {
  const options = { ...NET, nodes: 24, pieces: 66 };
  for (const policy of ['default', 'rarest_first'] as const) {
    const result = simulateKraken({ ...options, policy });
    t.equal(result.finishedMs.size, 24, policy);
    const limitMs = (66 * 2 ** 20 * 1_000) / 300e6;
    t.ok(result.lastMs > limitMs && result.lastMs < 20 * limitMs, `${policy}: last ${result.lastMs} ms`);
    // Its pieces have 4 MiB, and only the last three are asked of several.
    t.ok(result.duplicates <= 24 * 3 * 9, `${policy}: ${result.duplicates} came twice`);
    t.ok(result.originCopies >= 1, `${policy}: ${result.originCopies} copies`);
    t.same(simulateKraken({ ...options, policy }), result);
  }
});

t.test('one agent and one origin: the line is the limit', async (t) => {
  const result = simulateKraken({ ...NET, nodes: 1, origins: 1, pieces: 64, startMs: 1 });
  const limitMs = (64 * 2 ** 20 * 1_000) / 300e6;
  t.equal(result.finishedMs.size, 1);
  t.equal(Math.round(result.originCopies), 1);
  t.ok(result.lastMs < 1.1 * limitMs, `last ${result.lastMs} ms, limit ${limitMs} ms`);
});

t.test('many more nodes than the origins have room for: the rest waits and finds its way', async (t) => {
  const result = simulateKraken({ ...NET, nodes: 120, origins: 1, pieces: 32 });
  t.equal(result.finishedMs.size, 120);
  t.ok(result.originCopies <= 11, `ten connections, ${result.originCopies} copies`);
});

t.test(
  'the same nodes on the same network are done sooner by our policy, with fewer copies of the origins',
  async (t) => {
    const options = { ...NET, nodes: 12, pieces: 96, readers: false };
    const ours = simulate(options);
    const kraken = simulateKraken(options);
    t.ok(ours.lastMs < kraken.lastMs, `${ours.lastMs} ms, Kraken ${kraken.lastMs} ms`);
    t.ok(
      ours.originCopies < kraken.originCopies,
      `${ours.originCopies} copies, Kraken ${kraken.originCopies}`,
    );
  },
);
