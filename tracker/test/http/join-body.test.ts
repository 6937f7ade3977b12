import type { JoinAnswer } from '@sepia/cluster/api/join';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { joinBody, peerEntry } from '../../src/http/join-body.ts';

const NODE = fc.record({
  nodeId: fc.string({ unit: 'binary', minLength: 1 }),
  addresses: fc.array(fc.string()),
  zone: fc.option(fc.string({ unit: 'binary' }), { nil: undefined }),
  reason: fc.constantFrom('leecher' as const, 'seed' as const),
});
const PEER = fc.record(
  {
    peerId: fc.string(),
    nodeId: fc.string(),
    addresses: fc.array(fc.string()),
    origin: fc.boolean(),
    zone: fc.string(),
  },
  { requiredKeys: ['peerId', 'nodeId', 'addresses', 'origin'] },
);

t.test(
  'an answer says what it would say if it were worded at once, however often a node was worded before',
  async (t) => {
    fc.assert(
      fc.property(fc.array(PEER), fc.array(NODE), fc.string({ unit: 'binary' }), (peers, nodes, text) => {
        const answer: JoinAnswer = {
          kind: 'swarm',
          sizeBytes: 300_000,
          metainfo: text,
          owners: [{ id: 'o1', urls: ['http://127.0.0.1:1'] }],
          peers,
          intervalMs: 3_000,
        };
        const wanted = JSON.stringify({ ...answer, peers: [...peers, ...nodes.map(peerEntry)] });
        for (const body of [joinBody(answer, nodes), joinBody(answer, [...nodes])])
          t.strictSame(JSON.parse(body.toString('utf8')), JSON.parse(wanted));
      }),
      { numRuns: 50 },
    );
  },
);

t.test('a small blob has no peers', async (t) => {
  const answer: JoinAnswer = { kind: 'small', sizeBytes: 5, owners: [] };
  t.same(JSON.parse(joinBody(answer, []).toString('utf8')), answer);
});
