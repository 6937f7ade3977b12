import t from 'tap';
import { SCENARIOS, simulateOptions } from '../../src/simulate/scenarios.ts';

const NONE = {
  nodes: undefined,
  origins: undefined,
  trackers: undefined,
  blobBytes: undefined,
  rateBytesPerSec: undefined,
  seed: 1,
  faults: [],
};

t.test('N5 is two layers of 1.5 GB with five trackers', async (t) => {
  const { options, trackers, blobBytes, limitMs } = simulateOptions('n5', NONE);
  t.strictSame(options.pieces, [1_431, 1_431]);
  t.equal(trackers, 5);
  t.equal(blobBytes, 2 * 1_431 * 2 ** 20);
  t.ok(limitMs > 10_000 && limitMs < 10_010);
});

t.test('blobs, trackers and rate of the command line take the place of the scenario’s', async (t) => {
  const { options, trackers, limitMs } = simulateOptions('cold', {
    ...NONE,
    trackers: 3,
    blobBytes: [2 ** 20, 5],
    rateBytesPerSec: 2 ** 20,
  });
  t.strictSame(options.pieces, [1, 1]);
  t.equal(trackers, 3);
  t.equal(limitMs, 2_000);
  t.equal(options.landEveryMs, (2 * 2 ** 20 * 1_000) / 12_500_000, 'both share what the upstream gives');
});

t.test('nonsense is refused by name', async (t) => {
  t.throws(() => simulateOptions('n9', NONE), { message: new RegExp(Object.keys(SCENARIOS).join(', ')) });
  t.throws(() => simulateOptions('n5', { ...NONE, trackers: 0 }), { message: /--trackers/ });
  t.throws(() => simulateOptions('n5', { ...NONE, nodes: 0 }), { message: /--nodes/ });
});
