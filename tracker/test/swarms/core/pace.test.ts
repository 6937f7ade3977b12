import { MAX_NONCES, NONCE_KEEP_MS } from '@sepia/http/sign';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { paceOf, rejoinMs } from '../../../src/swarms/core/pace.ts';
import { MAX_NODES } from '../../../src/swarms/core/swarm-table.ts';

/** Nonces are forgotten by buckets of 10 s: a full one may stay this much longer. */
const KEPT_MS = NONCE_KEEP_MS + 20_000;

t.test('a small cluster keeps the configured heartbeat', async (t) => {
  t.same(paceOf(0, 10_000), { heartbeatMs: 10_000, watchedMs: 1_000, leaseMs: 25_000 });
  t.same(paceOf(500, 10_000), { heartbeatMs: 10_000, watchedMs: 1_000, leaseMs: 25_000 });
  t.equal(paceOf(15_000, 10_000).watchedMs, 10_000);
  t.equal(paceOf(MAX_NODES, 10_000).heartbeatMs, (MAX_NODES * 1_000) / 1_500);
  t.equal(rejoinMs(8), 3_000);
});

t.test('as many nodes as a tracker takes, all downloading: their calls leave room for nonces', async (t) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: MAX_NODES }),
      fc.integer({ min: 500, max: 60_000 }),
      (nodes, ms) => {
        const { heartbeatMs, watchedMs, leaseMs } = paceOf(nodes, ms);
        const callsPerMs = nodes / Math.min(heartbeatMs, watchedMs) + nodes / rejoinMs(nodes);
        // Half of the room is left for announced changes, commands and metainfo.
        return callsPerMs * KEPT_MS <= MAX_NONCES / 2 && leaseMs >= 2 * 1.2 * heartbeatMs;
      },
    ),
  );
  t.pass('held');
});
