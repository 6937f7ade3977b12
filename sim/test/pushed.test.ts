import t from 'tap';
import { type Fault, type SimulateOptions, simulatePush } from '../src/index.ts';

const PUSHED = {
  nodes: 12,
  origins: 3,
  pieces: 32,
  pushed: { rateBytesPerSec: 12.5e6 },
  checked: true,
  untilMs: 120_000,
  seed: Number(process.env['SEED'] ?? 5),
} as const satisfies SimulateOptions;

/** Cases of one push of 2.7 s that was acknowledged after 3.4 s, if nothing happens. */
const CASES: readonly (readonly [name: string, faults: readonly Fault[]])[] = [
  ['nothing happens', []],
  ['the origin that takes the body dies', [{ kind: 'kill', node: 'o0', atMs: 1_500 }]],
  ['the one that is given the copy dies', [{ kind: 'kill', node: 'o1', atMs: 3_000 }]],
  ['the first dies while members pull', [{ kind: 'kill', node: 'o0', atMs: 4_500 }]],
  ['one hangs', [{ kind: 'stop', node: 'o1', atMs: 2_000 }]],
  ['a tracker dies', [{ kind: 'tracker', atMs: 500 }]],
  [
    'an origin and members are cut off',
    [{ kind: 'partition', nodes: ['o0', 'a0', 'a1'], atMs: 500, untilMs: 9_000 }],
  ],
  ['blocks are lost', [{ kind: 'loss', atMs: 0, share: 0.05 }]],
  [
    'each origin crashes in turn',
    [0, 1, 2].map((at) => ({ kind: 'crash', node: `o${at}`, atMs: 1_000 + at * 1_500, backMs: 1_000 })),
  ],
  [
    'both that have it crash after the answer, and come back',
    [0, 1].map((at) => ({ kind: 'crash', node: `o${at}`, atMs: 5_000, backMs: 4_000 })),
  ],
];

for (const [name, faults] of CASES)
  t.test(`pushed, then pulled by its tag: ${name}`, async (t) => {
    const result = await simulatePush({ ...PUSHED, faults });
    t.equal(result.finishedMs.size, PUSHED.nodes, 'all have it');
    t.ok(
      result.pushedMs !== undefined && result.pushedMs > 2_600,
      `acknowledged after ${result.pushedMs} ms`,
    );
    t.ok(
      [...result.finishedMs.values()].every((atMs) => atMs > result.pushedMs!),
      'nobody has it before that',
    );
    t.equal(result.upstreamCopies, 0);
  });

t.test('with two of three origins gone nothing is acknowledged, and nobody sees a tag', async (t) => {
  const faults = [0, 1].map((at) => ({ kind: 'kill', node: `o${at}`, atMs: 100 }) as const);
  await t.rejects(simulatePush({ ...PUSHED, faults }), { code: 'NO_PEERS' });
});
