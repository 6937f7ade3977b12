import t from 'tap';
import { LiveFigures } from '../../../src/swarms/core/live-figures.ts';

const of = (digest: string, peerBytes: number) => ({
  digest,
  pieces: 4,
  have: 'f0',
  peerBytes,
  originBytes: 0,
});

t.test('the last figures of each node, until it is forgotten', async (t) => {
  const figures = new LiveFigures();
  figures.note('n1', [of('a', 1), of('b', 2)]);
  figures.note('n2', [of('a', 3)]);
  t.same(figures.of('a'), [
    { nodeId: 'n1', ...of('a', 1) },
    { nodeId: 'n2', ...of('a', 3) },
  ]);
  figures.note('n1', [of('a', 5)]);
  t.same(
    figures.of('a').map(({ nodeId, peerBytes }) => [nodeId, peerBytes]),
    [
      ['n2', 3],
      ['n1', 5],
    ],
  );
  t.same(figures.of('b'), []);
  figures.forget('n2');
  t.equal(figures.of('a').length, 1);
});

t.test('nodes without a running swarm take no room from those that have one', async (t) => {
  const figures = new LiveFigures();
  figures.note('n', [of('a', 1)]);
  for (let n = 0; n <= 2_000; n++) figures.note(`idle${n}`, []);
  t.equal(figures.of('a').length, 1);
  figures.note('n', []);
  t.same(figures.of('a'), []);
});

t.test('beyond their number the node that told longest ago is let go', async (t) => {
  const figures = new LiveFigures();
  for (let n = 0; n <= 2_000; n++) figures.note(`n${n}`, [of('a', n)]);
  const found = figures.of('a');
  t.equal(found.length, 2_000);
  t.equal(found[0]?.nodeId, 'n1');
});
