import { calibrated, simulate, simulateKraken } from '@sepia/sim';
import t from 'tap';
import { rowOf } from '../../src/simulate/rows.ts';
import { simulateOptions } from '../../src/simulate/scenarios.ts';

const NODES = 60;
const MIB = 2 ** 20;

/**
 * What each row may come to at most: p50 and p99.9 over the limit of the line, and copies from the origins. So small a part is
 * further from the limit than the whole; equal seeds are equal runs, so that these stand close to what they bound.
 */
const LIMITS = {
  policy: { p50: 1.4, p999: 1.65, copies: 5 },
  calibrated: { p50: 1.4, p999: 1.75, copies: 3.6 },
} as const;

t.test(
  'N5 with a part of its nodes and bytes: near the limit of the line, few copies, before Kraken',
  async (t) => {
    const { options, trackers, limitMs } = simulateOptions('n5', {
      ...{ nodes: NODES, origins: undefined, trackers: undefined, rateBytesPerSec: undefined },
      ...{ blobBytes: [128 * MIB, 128 * MIB], seed: 1, faults: [] },
    });
    const runs = { policy: simulate(options), calibrated: simulate(calibrated(options, trackers)) };
    const kraken = rowOf('kraken', simulateKraken(options), { limitMs, wallMs: 0 });
    t.equal(kraken.finished, NODES);
    for (const name of ['policy', 'calibrated'] as const) {
      const row = rowOf(name, runs[name], { limitMs, wallMs: 0 });
      const most = LIMITS[name];
      const text = `${name}: ${JSON.stringify(row)}`;
      t.equal(row.finished, NODES, text);
      t.ok(row.p50Ms >= limitMs, `${text}: no faster than the line`);
      t.ok(row.p50Ms <= most.p50 * limitMs, `p50 of ${text}`);
      t.ok(row.overLimit <= most.p999, `p99.9 of ${text}`);
      t.ok(row.originCopies <= most.copies, `copies of ${text}`);
      t.ok(row.p50Ms < kraken.p50Ms, `before Kraken, which had ${JSON.stringify(kraken)}`);
      t.comment(text);
    }
  },
);
