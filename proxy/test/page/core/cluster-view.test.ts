import { digestOf } from '@sepia/base/digest';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { clusterView } from '../../../src/page/core/cluster-view.ts';

const DIGEST = digestOf(Buffer.from('x'));
const MIB = 1024 * 1024;
const shown = (digest: string): string => digest.slice(0, 'sha256:'.length + 12);

t.test('members, nodes, swarms and totals are gathered', async (t) => {
  const view = clusterView(
    [
      {
        id: 'o1',
        role: 'origin',
        zone: 'z',
        answer: {
          version: 1,
          uptimeSeconds: 9,
          blobs: 3,
          usedBytes: 7 * MIB + 1,
          upstreamBytes: 50 * MIB + 1,
          fetches: [{ digest: DIGEST, sizeBytes: 8, pieces: 4, have: 'c0' }],
        },
      },
      { id: 'o2', role: 'origin', answer: undefined },
      {
        id: 't1',
        role: 'tracker',
        answer: {
          version: 1,
          nodes: [
            { id: 'n1', zone: 'z', seeds: 2, version: 2, uptimeSeconds: 8, usedBytes: 3 * MIB + 1 },
            { id: 'n1' },
          ],
          swarms: [
            {
              digest: DIGEST,
              sizeBytes: 8,
              pieces: 4,
              state: 'open',
              peers: [{ nodeId: 'n1', have: '80', peerBytes: 2 * MIB - 1, originBytes: 5 }],
            },
          ],
        },
      },
    ],
    3,
    1000,
  );
  t.same(view.members, [
    {
      id: 'o1',
      role: 'origin',
      up: true,
      zone: 'z',
      version: '1',
      uptimeSeconds: 9,
      blobs: 3,
      usedBytes: 7 * MIB,
    },
    { id: 'o2', role: 'origin', up: false },
    { id: 't1', role: 'tracker', up: true, version: '1' },
    {
      ...{ id: 'n1', role: 'agent', up: true, zone: 'z', version: '2', uptimeSeconds: 8 },
      ...{ usedBytes: 3 * MIB, blobs: 2 },
    },
  ]);
  t.same(view.swarms, [
    {
      digest: shown(DIGEST),
      sizeBytes: MIB,
      pieces: 4,
      state: 'open',
      progress: 3 / 8,
      peers: [
        { id: 'o1', role: 'origin', cells: 'ff00', have: 2, peerBytes: 0, originBytes: 0 },
        { id: 'n1', role: 'agent', cells: 'f000', have: 1, peerBytes: 2 * MIB, originBytes: 0 },
      ],
      morePeers: 0,
    },
  ]);
  t.same(view.totals, { peerBytes: 2 * MIB, originBytes: 0, upstreamBytes: 50 * MIB, nodes: 1 });
});

t.test(
  'an origin that tells numbers only is shown without a grid, its ended fetches not at all',
  async (t) => {
    const fetch = { digest: DIGEST, sizeBytes: 8 * MIB, pieces: 4, have: 3 };
    const view = (state: string) =>
      clusterView(
        [
          {
            id: 'o1',
            role: 'origin',
            answer: { uptimeMs: 4_400, storedBytes: 9 * MIB, fetches: [{ ...fetch, state }] },
          },
        ],
        1,
        0,
      );
    const running = view('running');
    t.equal(running.totals.upstreamBytes, 3 * MIB, 'what its fetches hold');
    t.same(running.members[0], { id: 'o1', role: 'origin', up: true, uptimeSeconds: 4, usedBytes: 9 * MIB });
    t.equal(running.swarms[0]?.peers[0]?.cells, '');
    t.equal(running.swarms[0]?.peers[0]?.have, 3);
    t.equal(running.swarms[0]?.progress, 0.75);
    t.same(view('final').swarms, []);
    t.same(view('failed').swarms, []);
  },
);

t.test('any answer at all gives a view', async (t) => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), fc.jsonValue(), (any, nodes, swarms) => {
      const answers = [
        any,
        { nodes: [nodes], swarms: [swarms], fetches: [any] },
        { swarms: [{ digest: DIGEST, pieces: 3, peers: [any, nodes, { nodeId: 'x', have: any }] }] },
      ];
      const view = clusterView(
        answers.map((answer, index) => ({
          id: `m${index}`,
          role: index === 0 ? 'origin' : 'tracker',
          answer,
        })),
        1,
        0,
      );
      if (view.members.length < answers.length) throw new Error('a member is missing');
      JSON.stringify(view);
    }),
  );
  t.pass('never throws');
});

t.test('a swarm that nobody takes part in is not shown, a finished one last', async (t) => {
  const other = digestOf(Buffer.from('y'));
  const idle = digestOf(Buffer.from('z'));
  const swarms = [
    { digest: idle, sizeBytes: 8, pieces: 4, peers: [] },
    { digest: DIGEST, sizeBytes: 8, pieces: 4, peers: [{ nodeId: 'n', have: 'f0' }] },
    { digest: other, sizeBytes: 8, pieces: 4, peers: [{ nodeId: 'n', have: 'e0' }] },
  ];
  const view = clusterView([{ id: 't', role: 'tracker', answer: { swarms } }], 1, 0);
  t.same(
    view.swarms.map((swarm) => swarm.digest),
    [shown(other), shown(DIGEST)],
  );
  t.same(clusterView([{ id: 'o', role: 'origin', answer: { swarms } }], 1, 0).swarms, [], 'of trackers only');
});

t.test('swarms that ended are shown after the others, the latest first', async (t) => {
  const swarm = (name: string, peers: readonly object[]) => ({
    ...{ digest: digestOf(Buffer.from(name)), sizeBytes: 8, pieces: 4 },
    peers: peers.map((peer, index) => ({ nodeId: `n${index}`, have: 4, ...peer })),
  });
  const told = [
    swarm('old', [{ endedSeconds: 40 }, { endedSeconds: 31 }]),
    swarm('late', [{ endedSeconds: 3 }]),
    swarm('half', [{ endedSeconds: 60 }, { have: 'f0' }]),
    swarm('runs', [{ have: '80' }, { endedSeconds: 1 }]),
  ];
  const view = clusterView([{ id: 't', role: 'tracker', answer: { swarms: told } }], 1, 0);
  t.same(
    view.swarms.map(({ digest, endedSeconds }) => [digest, endedSeconds]),
    [
      [shown(told[3]!.digest), undefined],
      [shown(told[2]!.digest), undefined],
      [shown(told[1]!.digest), 3],
      [shown(told[0]!.digest), 31],
    ],
  );
  t.same(view.swarms[2]?.peers, [
    { id: 'n0', role: 'agent', cells: '', have: 4, peerBytes: 0, originBytes: 0, endedSeconds: 3 },
  ]);
});

t.test('what is shown is limited', async (t) => {
  const peers = Array.from({ length: 1000 }, (_, index) => ({ nodeId: `n${index}`, have: 'f' }));
  const swarms = Array.from({ length: 100 }, (_, index) => ({
    digest: digestOf(Buffer.from(String(index))),
    sizeBytes: 1,
    pieces: 4,
    peers,
  }));
  const view = clusterView(
    [{ id: 't', role: 'tracker', answer: { swarms, nodes: peers.map(({ nodeId }) => ({ id: nodeId })) } }],
    1,
    0,
  );
  t.equal(view.swarms.length, 24);
  t.equal(view.swarms[0]!.peers.length, 128);
  t.equal(view.swarms[0]!.morePeers, 872);
  t.equal(view.totals.nodes, 500);
});

t.test('property: nothing shown opens a blob: no whole digest, no size to the byte', async () => {
  const exact = fc.integer({ min: MIB + 1, max: 2 ** 40 }).filter((bytes) => bytes % MIB !== 0);
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 8 }), exact, (seed, sizeBytes) => {
      const digest = digestOf(Buffer.from(seed));
      const facts = { digest, sizeBytes, pieces: 4, upstreamBytes: sizeBytes, usedBytes: sizeBytes };
      const peer = { nodeId: 'n', have: 'f0', peerBytes: sizeBytes, originBytes: sizeBytes };
      const asked = [
        { id: 't', role: 'tracker' as const, answer: { swarms: [{ ...facts, peers: [peer] }] } },
        { id: 'o', role: 'origin' as const, answer: { ...facts, fetches: [{ ...facts, have: 4 }] } },
      ];
      const text = JSON.stringify(clusterView(asked, 1, 0));
      const [, hex = ''] = digest.split(':');
      return (
        text.includes(hex.slice(0, 12)) && !text.includes(hex.slice(0, 13)) && !text.includes(`${sizeBytes}`)
      );
    }),
  );
});

t.test('backends are gathered by upstream: copies that wait everywhere, the oldest, an error', async (t) => {
  const [kind, place] = ['s3', 's3://images at store'];
  const owes = (blobs: number, oldestSeconds: number, problem?: string) => ({
    backends: [
      { upstream: 'local', kind, place, blobs, bytes: blobs * MIB, oldestSeconds, problem },
      { upstream: 'harbor', kind: 'fs', place: '/mnt/harbor' },
      { upstream: 7, kind, place },
      'x',
    ],
  });
  const view = clusterView(
    [
      { id: 'o1', role: 'origin', answer: owes(2, 5) },
      { id: 'o2', role: 'origin', answer: owes(1, 9, 'it does not answer') },
      { id: 't1', role: 'tracker', answer: owes(1, 9) },
    ],
    1,
    0,
  );
  t.same(view.backends, [
    { upstream: 'harbor', kind: 'fs', place: '/mnt/harbor', oldestSeconds: 0 },
    {
      ...{ upstream: 'local', kind, place, waiting: 3, waitingBytes: 3 * MIB, oldestSeconds: 9 },
      problem: 'it does not answer',
    },
  ]);
});

t.test('what waits for the registries behind is summed over the origins that lead it', async (t) => {
  const origin = (id: string, writeBack: unknown) => ({
    id,
    role: 'origin' as const,
    answer: { version: 1, writeBack },
  });
  const { writeBack } = clusterView(
    [
      origin('o1', [
        { upstream: 'hub', waiting: 3, dead: 1, oldestMs: 90_000 },
        { upstream: 'far', waiting: 1 },
      ]),
      origin('o2', [{ upstream: 'hub', waiting: 2, oldestMs: 30_000 }, { waiting: 7 }, 'odd']),
      origin('o3', 'odd'),
    ],
    3,
    1000,
  );
  t.same(writeBack, [
    { upstream: 'far', waiting: 1, dead: 0, oldestSeconds: 0 },
    { upstream: 'hub', waiting: 5, dead: 1, oldestSeconds: 90 },
  ]);
});

t.test(
  'members and peers stand in the order of their names, origins first, however they are told',
  async (t) => {
    const ids = ['b', 'd', 'a', 'c'];
    const peers = ids.map((id) => ({ nodeId: `n-${id}`, have: 'f0' }));
    const fetch = { digest: DIGEST, sizeBytes: 8, pieces: 4, have: 4 };
    const tracker = { swarms: [{ ...fetch, peers }], nodes: peers.map(({ nodeId }) => ({ id: nodeId })) };
    const view = clusterView(
      [
        { id: 't', role: 'tracker', answer: tracker },
        ...['o-2', 'o-1'].map((id) => ({ id, role: 'origin' as const, answer: { fetches: [fetch] } })),
      ],
      1,
      0,
    );
    const named = ids.map((id) => `n-${id}`).sort();
    t.same(
      view.swarms[0]?.peers.map(({ id }) => id),
      ['o-1', 'o-2', ...named],
    );
    t.same(
      view.members.map(({ id }) => id),
      ['t', 'o-2', 'o-1', ...named],
    );
  },
);

t.test('an origin that does not say what it took counts what its fetches are known to hold', async (t) => {
  const fetches = [
    { sizeBytes: 8 * MIB, have: 3 },
    { sizeBytes: 2 * MIB, have: 3 },
    { sizeBytes: 8 * MIB, have: 'c0' },
    { have: 3 },
    'odd',
  ];
  const view = clusterView([{ id: 'o', role: 'origin', answer: { fetches } }], 1, 0);
  t.equal(view.totals.upstreamBytes, 5 * MIB, 'never more than a blob is large');
});

t.test(
  'more upstreams than the page shows are left out, and those that are shown go on counting',
  async (t) => {
    const names = Array.from({ length: 101 }, (_, at) => `u${String(at).padStart(3, '0')}`);
    const answer = {
      writeBack: names.map((upstream) => ({ upstream, dead: 1 })),
      backends: names.map((upstream) => ({ upstream, kind: 'fs', place: '/x', blobs: 1 })),
    };
    const origins = ['o1', 'o2'].map((id) => ({ id, role: 'origin' as const, answer }));
    const view = clusterView(origins, 1, 0);
    t.equal(view.writeBack.length, 100);
    t.equal(view.backends.length, 100);
    t.same(view.writeBack.at(-1), { upstream: 'u099', waiting: 0, dead: 2, oldestSeconds: 0 });
    t.match(view.backends.at(-1), { upstream: 'u099', waiting: 2 });
  },
);

t.test('copies that wait stay counted beside an origin that tells of none', async (t) => {
  const row = { upstream: 'local', kind: 's3', place: 's3://images' };
  const [owes, none] = [{ backends: [{ ...row, blobs: 2, bytes: 3 * MIB }] }, { backends: [row] }];
  for (const answers of [
    [owes, none],
    [none, owes],
  ]) {
    const asked = answers.map((answer, at) => ({ id: `o${at}`, role: 'origin' as const, answer }));
    t.match(clusterView(asked, 1, 0).backends, [{ waiting: 2, waitingBytes: 3 * MIB, oldestSeconds: 0 }]);
  }
});
