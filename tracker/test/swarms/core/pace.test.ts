import { MAX_LEASE_MS } from '@sepia/cluster/api/lease';
import { MAX_NONCES, NONCE_KEEP_MS } from '@sepia/http/sign';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { leaseMsOf, newsGapMs, paceOf, rejoinMs } from '../../../src/swarms/core/pace.ts';
import { MAX_NODES, SwarmTable } from '../../../src/swarms/core/swarm-table.ts';

/** Nonces are forgotten by buckets of 10 s: a full one may stay this much longer. */
const KEPT_MS = NONCE_KEEP_MS + 20_000;

t.test('a small cluster keeps the configured heartbeat', async (t) => {
  t.same(paceOf(0, 10_000), { heartbeatMs: 10_000, watchedMs: 1_000, leaseMs: 25_000 });
  t.same(paceOf(500, 10_000), { heartbeatMs: 10_000, watchedMs: 1_000, leaseMs: 25_000 });
  t.same(paceOf(15_000, 10_000), { heartbeatMs: 30_000, watchedMs: 30_000, leaseMs: 75_000 });
  t.equal(paceOf(MAX_NODES, 10_000).heartbeatMs, (MAX_NODES * 1_000) / 500);
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

t.test('a node that heeds what it is told never lapses, as a cluster grows and shrinks', async (t) => {
  const beat = fc.record({
    nodes: fc.integer({ min: 1, max: MAX_NODES }),
    askedMs: fc.integer({ min: 1_000, max: MAX_LEASE_MS }),
    isWatched: fc.boolean(),
    spread: fc.double({ min: 0.8, max: 1.2, noNaN: true }),
  });
  const node = {
    nodeId: 'a',
    addresses: [],
    bootId: 'b',
    add: [],
    drop: [],
    leeching: [],
    setHash: '0'.repeat(16),
  };
  fc.assert(
    fc.property(
      fc.array(beat, { maxLength: 20 }),
      fc.integer({ min: 500, max: 240_000 }),
      (beats, configuredMs) => {
        const table = new SwarmTable(
          () => 0,
          () => 0n,
        );
        let nowMs = 0;
        return beats.every(({ nodes, askedMs, isWatched, spread }, seq) => {
          const pace = paceOf(nodes, configuredMs);
          const ttlMs = leaseMsOf(askedMs, pace);
          table.renew({ ...node, seq, ttlMs }, nowMs);
          nowMs += spread * (isWatched ? pace.watchedMs : pace.heartbeatMs);
          return ttlMs <= MAX_LEASE_MS && table.expire(nowMs).length === 0;
        });
      },
    ),
  );
  t.pass('held');
});

t.test(
  'a few are told of each piece at once, many so seldom that a tracker has time for the rest',
  async (t) => {
    t.equal(newsGapMs(0), 0);
    t.equal(newsGapMs(32), 0);
    t.equal(newsGapMs(282), 500);
    fc.assert(
      fc.property(
        fc.integer({ min: 33, max: 432 }),
        (waiting) => (waiting - 32) / newsGapMs(waiting) <= 0.51,
      ),
    );
    t.equal(newsGapMs(MAX_NODES), 800, 'no agent doubts after 1 s that we are there');
  },
);
