import t from 'tap';
import { ENDED_SHOWN_MS } from '../../../src/deadlines.ts';
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
  figures.note('n1', [of('a', 1), of('b', 2)], 0);
  figures.note('n2', [of('a', 3)], 0);
  t.same(figures.of('a', 0), [
    { nodeId: 'n1', ...of('a', 1) },
    { nodeId: 'n2', ...of('a', 3) },
  ]);
  figures.note('n1', [of('a', 5)], 0);
  t.same(
    figures.of('a', 0).map(({ nodeId, peerBytes }) => [nodeId, peerBytes]),
    [
      ['n2', 3],
      ['n1', 5],
    ],
  );
  t.same(figures.of('b', 0), [
    { nodeId: 'n1', digest: 'b', pieces: 4, have: 4, peerBytes: 2, originBytes: 0, endedSeconds: 0 },
  ]);
  figures.forget('n2');
  t.equal(figures.of('a', 0).length, 1);
});

t.test('nodes without a running swarm take no room from those that have one', async (t) => {
  const figures = new LiveFigures();
  figures.note('n', [of('a', 1)], 0);
  for (let n = 0; n <= 2_000; n++) figures.note(`idle${n}`, [], 0);
  t.equal(figures.of('a', 0).length, 1);
  figures.forget('n');
  t.same(figures.of('a', 0), []);
});

t.test('beyond their number the node that told longest ago is let go', async (t) => {
  const figures = new LiveFigures();
  for (let n = 0; n <= 2_000; n++) figures.note(`n${n}`, [of('a', n)], 0);
  const found = figures.of('a', 0);
  t.equal(found.length, 2_000);
  t.equal(found[0]?.nodeId, 'n1');
});

t.test('what a node told last of a swarm is shown for a while after it ended', async (t) => {
  const figures = new LiveFigures();
  figures.note('n1', [of('a', 1), of('b', 2)], 0);
  figures.note('n2', [of('a', 3)], 0);
  figures.note('n1', [of('b', 4)], 5_000);
  const ended = { nodeId: 'n1', ...of('a', 1), have: 4 };
  t.same(figures.of('a', 17_400), [
    { nodeId: 'n2', ...of('a', 3) },
    { ...ended, endedSeconds: 12 },
  ]);
  t.same(figures.of('b', 17_400), [{ nodeId: 'n1', ...of('b', 4) }]);
  figures.note('n1', [of('a', 9)], 20_000);
  t.same(
    figures.of('a', 20_000).map(({ nodeId, peerBytes }) => [nodeId, peerBytes]),
    [
      ['n2', 3],
      ['n1', 9],
    ],
    'not beside what it tells now',
  );
  figures.note('n1', [], 30_000);
  t.equal(figures.of('a', 30_000 + ENDED_SHOWN_MS - 1).length, 2);
  t.equal(figures.of('a', 30_000 + ENDED_SHOWN_MS).length, 1);
});

t.test('of what ended few blobs and few nodes of each are kept', async (t) => {
  const figures = new LiveFigures();
  for (let n = 0; n < 200; n++) {
    figures.note(`n${n}`, [of('a', n)], 0);
    figures.note(`n${n}`, [], 1_000);
  }
  const found = figures.of('a', 1_000);
  t.equal(found.length, 128);
  t.equal(found[0]?.nodeId, 'n72', 'the last of them');
  for (let n = 0; n < 24; n++) {
    figures.note('n', [of(`b${n}`, 1)], 1_000);
    figures.note('n', [], 1_000);
  }
  t.same(figures.of('a', 1_000), []);
  t.equal(figures.of('b0', 1_000).length, 1);
});

t.test('what a node says of itself, until it is forgotten', async (t) => {
  const figures = new LiveFigures();
  const self = { version: 2, uptimeSeconds: 7, usedBytes: 9 };
  figures.note('n1', [], 0, self);
  figures.note('n1', [of('a', 1)], 1_000);
  t.same(figures.selfOf('n1'), self, 'the last word stays');
  t.equal(figures.selfOf('n2'), undefined);
  figures.forget('n1');
  t.equal(figures.selfOf('n1'), undefined);
});
