import { digestHash, setHash } from '@sepia/cluster/api/set-hash';
import { fc } from '@sepia/test-support/property';
import { seeded as draws, SEED } from '@sepia/test-support/seeded';
import t from 'tap';
import { MAX_NODES, MAX_SEEDS_PER_BLOB, SwarmTable } from '../../../src/swarms/core/swarm-table.ts';

const node = (nodeId: string, zone?: string) => ({ nodeId, addresses: [`10.0.0.1:${nodeId.length}`], zone });
const lease = (nodeId: string, extra: Partial<Parameters<SwarmTable['renew']>[0]> = {}) => ({
  ...node(nodeId),
  bootId: 'b1',
  seq: 1,
  ttlMs: 1000,
  add: [],
  drop: [],
  leeching: [],
  setHash: setHash(extra.add ?? []),
  ...extra,
});
/** A seeded generator in [0, 1). */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return state / 2 ** 31;
  };
}

t.test('a seed told by lease is handed out, never to itself', async (t) => {
  const table = new SwarmTable(seeded(1), digestHash);
  table.renew(lease('a', { add: ['d1'], setHash: setHash(['d1']) }), 0);
  t.same(
    table.handout('d1', node('b'), 10).map((one) => [one.nodeId, one.reason]),
    [['a', 'seed']],
  );
  t.same(table.handout('d1', node('a'), 10), []);
});

t.test(
  'a lease that two processes renew by turns tells each of the other; one that joined first is none',
  async (t) => {
    const table = new SwarmTable(seeded(1), digestHash);
    const beat = (bootId: string, nowMs: number) =>
      table.renew(
        lease('a', { bootId, seq: nowMs, addresses: bootId === 'b3' ? [] : [`${bootId}:1`] }),
        nowMs,
      );
    table.join(node('a'), 'd1', true, 1_000, 0);
    for (let round = 1; round < 4; round++)
      t.same(
        [beat('b1', round), beat('b2', round)].map(({ twin }) => twin),
        round < 3 ? [undefined, undefined] : ['b2:1', 'b1:1'],
      );
    t.equal(beat('b2', 9).twin, 'b1:1', 'as long as the other is heard of');
    t.equal(beat('b2', 2_003).twin, undefined);
    for (let round = 0; round < 3; round++) for (const bootId of ['b3', 'b2']) beat(bootId, 3_000);
    t.equal(beat('b2', 3_000).twin, '', 'one that tells no address');
    const resync = table.renew(lease('a', { bootId: 'b3', setHash: setHash(['d1']) }), 3_000);
    t.same(resync, { resync: true, refused: false, twin: 'b2:1' });
  },
);

t.test('a node is handed out as it last told of itself, by lease or join', async (t) => {
  const table = new SwarmTable(seeded(1), digestHash);
  const told = () =>
    table.handout('d1', { nodeId: 'b', addresses: [] }, 10).map((one) => [...one.addresses, one.zone]);
  const set = { setHash: setHash(['d1']) };
  table.renew(lease('a', { add: ['d1'], ...set, addresses: ['x:1'] }), 0);
  table.renew(lease('a', { seq: 2, ...set, addresses: ['x:1'] }), 0);
  t.same(told(), [['x:1', undefined]], 'the same again');
  table.renew(lease('a', { seq: 3, ...set, addresses: ['x:2'] }), 0);
  t.same(told(), [['x:2', undefined]]);
  table.join({ nodeId: 'a', addresses: ['x:2', 'y:2'] }, 'd1', false, 1000, 0);
  t.same(told(), [['x:2', 'y:2', undefined]]);
  table.join({ nodeId: 'a', addresses: ['x:2', 'y:2'], zone: 'z1' }, 'd1', false, 1000, 0);
  t.same(told(), [['x:2', 'y:2', 'z1']]);
});

t.test('what is handed out of a node is the same object until the node says something else', async (t) => {
  const table = new SwarmTable(seeded(1), digestHash);
  const told = (addresses: string[]) => {
    table.join({ nodeId: 'a', addresses }, 'd1', true, 1000, 0);
    return table.handout('d1', node('b'), 10)[0]!;
  };
  const first = told(['x:1']);
  t.equal(told(['x:1']), first);
  const second = told(['x:2']);
  t.not(second, first);
  t.same([first.addresses, second.addresses], [['x:1'], ['x:2']]);
  table.join({ nodeId: 'a', addresses: ['x:2'] }, 'd1', false, 1000, 0);
  t.equal(table.handout('d1', node('b'), 10)[0]?.reason, 'seed');
});

t.test('leechers and seeds are handed out by their numbers, each as often as any other', async (t) => {
  const table = new SwarmTable(draws(SEED), digestHash);
  for (let at = 0; at < 6; at++) table.join(node(`n${at}`), 'd', at < 4, 1000, 0);
  const counts = new Map<string, number>();
  const rounds = 6_000;
  // One of six that may be drawn asks itself; of the other five three are told.
  for (let round = 0; round < rounds; round++)
    for (const { nodeId } of table.handout('d', node('n0'), 3))
      counts.set(nodeId, (counts.get(nodeId) ?? 0) + 1);
  t.same([...counts.keys()].sort(), ['n1', 'n2', 'n3', 'n4', 'n5']);
  // Five standard deviations.
  for (const [id, count] of counts) t.ok(Math.abs(count - rounds * 0.6) < 190, `${id}: ${count}`);
});

t.test('a set that differs asks for the full one', async (t) => {
  const table = new SwarmTable(seeded(1), digestHash);
  t.equal(table.renew(lease('a', { add: ['d1'], setHash: setHash(['d1', 'd2']) }), 0).resync, true);
  t.equal(
    table.renew(lease('a', { seq: 2, add: ['d1', 'd2'], setHash: setHash(['d2', 'd1']) }), 0).resync,
    false,
  );
});

t.test('a set that is larger here than there is the same after one full message', async (t) => {
  const table = new SwarmTable(seeded(1), digestHash);
  // Its answer is lost, and the node lets go of the blob before it tells it again.
  table.renew(lease('a', { add: ['d1', 'd2'], setHash: setHash(['d1', 'd2']) }), 0);
  const own = { setHash: setHash(['d2']) };
  t.equal(table.renew(lease('a', { seq: 2, ...own }), 0).resync, true);
  t.equal(table.renew(lease('a', { seq: 3, add: ['d2'], ...own }), 0).resync, false);
  t.equal(table.renew(lease('a', { seq: 4, ...own }), 0).resync, false);
  t.equal(table.handout('d1', node('b'), 10).length, 0);
  t.equal(table.handout('d2', node('b'), 10).length, 1);
});

t.test('an older heartbeat of the same boot changes nothing', async (t) => {
  const table = new SwarmTable(seeded(1), digestHash);
  table.renew(lease('a', { seq: 5, add: ['d1'] }), 0);
  table.renew(lease('a', { seq: 4, drop: ['d1'] }), 0);
  t.equal(table.handout('d1', node('b'), 10).length, 1);
});

t.test('a new boot forgets what the old one said', async (t) => {
  const table = new SwarmTable(seeded(1), digestHash);
  table.renew(lease('a', { add: ['d1'] }), 0);
  table.renew(lease('a', { bootId: 'b2', seq: 1 }), 0);
  t.equal(table.handout('d1', node('b'), 10).length, 0);
});

t.test('a lease that ran out takes its seeds and leeching along', async (t) => {
  const table = new SwarmTable(seeded(1), digestHash);
  table.renew(lease('a', { add: ['d1'], leeching: ['d2'] }), 0);
  t.same(table.expire(999), []);
  t.same(table.expire(1000), ['a']);
  t.equal(table.handout('d1', node('b'), 10).length, 0);
  t.equal(table.leecherCount('d2'), 0);
});

t.test('joining makes a leecher, finishing a seed', async (t) => {
  const table = new SwarmTable(seeded(1), digestHash);
  table.join(node('a'), 'd1', true, 1000, 0);
  t.equal(table.handout('d1', node('b'), 10)[0]?.reason, 'leecher');
  table.join(node('a'), 'd1', false, 1000, 0);
  t.equal(table.handout('d1', node('b'), 10)[0]?.reason, 'seed');
});

t.test('peers of the own zone come first, but never alone while others are there', async (t) => {
  const table = new SwarmTable(seeded(3), digestHash);
  for (let at = 0; at < 40; at++) table.join(node(`near${at}`, 'z1'), 'd', true, 1000, 0);
  for (let at = 0; at < 40; at++) table.join(node(`far${at}`, 'z2'), 'd', true, 1000, 0);
  const zones = table.handout('d', node('me', 'z1'), 20).map((one) => one.zone);
  t.equal(zones.length, 20);
  t.equal(zones.filter((zone) => zone === 'z1').length, 15);
});

t.test('at most 100 seeds a blob, whoever they are', async (t) => {
  const table = new SwarmTable(seeded(9), digestHash);
  for (let at = 0; at < 300; at++) table.renew(lease(`n${at}`, { add: ['d'] }), 0);
  t.ok(table.handout('d', node('me'), 1000).length <= MAX_SEEDS_PER_BLOB);
});

t.test('any mix of messages keeps the table consistent', async () => {
  const step = fc.record({
    id: fc.constantFrom('a', 'b', 'c'),
    boot: fc.constantFrom('1', '2'),
    seq: fc.nat(9),
    at: fc.nat(5000),
    add: fc.subarray(['d1', 'd2', 'd3']),
    drop: fc.subarray(['d1', 'd2', 'd3']),
    leeching: fc.subarray(['d1', 'd2']),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.nat(), (steps, seed) => {
      const table = new SwarmTable(seeded(seed), digestHash);
      let nowMs = 0;
      const sets = new Map<string, { boot: string; seq: number; seeds: Set<string>; untilMs: number }>();
      for (const one of steps) {
        nowMs += one.at;
        for (const [id, { untilMs }] of sets) if (untilMs <= nowMs) sets.delete(id);
        table.expire(nowMs);
        const before = sets.get(one.id);
        const isOld = before?.boot === one.boot && one.seq < before.seq;
        const seeds = new Set(before?.boot === one.boot ? before.seeds : []);
        if (!isOld) {
          for (const digest of one.drop) seeds.delete(digest);
          for (const digest of one.add) seeds.add(digest);
          sets.set(one.id, { boot: one.boot, seq: one.seq, seeds, untilMs: nowMs + 1000 });
        }
        const { boot: bootId, seq, add, drop, leeching } = one;
        const told = { bootId, seq, add, drop, leeching, setHash: setHash(seeds) };
        // The set that is kept up step by step is the one that was told.
        if (table.renew(lease(one.id, told), nowMs).resync) return false;
        for (const digest of ['d1', 'd2', 'd3']) {
          const ids = table.handout(digest, node('asker'), 50).map((handout) => handout.nodeId);
          if (ids.some((id) => id === 'asker')) return false;
        }
      }
      table.expire(nowMs + 1_000_000);
      return (
        table.nodeCount === 0 &&
        ['d1', 'd2', 'd3'].every((digest) => table.handout(digest, node('x'), 9).length === 0)
      );
    }),
  );
});

t.test('who holds pieces of an attempt, and who is in a swarm, is told whatever the asker', async (t) => {
  const table = new SwarmTable(seeded(1), digestHash);
  table.join(node('a'), 'd1', true, 1_000, 0);
  table.join(node('b'), 'd1', false, 1_000, 0);
  table.join(node('c'), 'd2', true, 1_000, 0);
  const held = table.holders('d1', 10).map(({ nodeId }) => nodeId);
  t.same(held.sort(), ['a', 'b']);
  t.same([table.leecherCount('d1'), table.leecherCount('d3')], [1, 0]);
  t.ok(table.isIn('d1', 'a'), 'it downloads');
  t.ok(table.isIn('d1', 'b'), 'it seeds');
  t.notOk(table.isIn('d1', 'c'), 'it is in another');
  t.notOk(table.isIn('d3', 'a'), 'nobody is');
  t.notOk(table.isIn('d1', 'x'), 'not known');
});

t.test('more nodes than a tracker takes are refused until others are gone', async (t) => {
  const table = new SwarmTable(seeded(1), digestHash);
  for (let at = 0; at < MAX_NODES; at++) table.join(node(`n${at}`), 'd', true, 1_000, 0);
  t.same(table.renew(lease('late'), 0), { resync: false, refused: true });
  table.join(node('late'), 'd2', true, 1_000, 0);
  t.same([table.nodeCount, table.leecherCount('d2')], [MAX_NODES, 0]);
  t.equal(table.renew(lease('n0'), 0).refused, false, 'who is known stays');
  table.forget('late');
  table.forget('n1');
  t.equal(table.nodeCount, MAX_NODES - 1);
  t.equal(table.renew(lease('late'), 0).refused, false);
});

t.test('of the message that a node comes with only its facts are kept', async (t) => {
  const table = new SwarmTable(seeded(1), digestHash);
  const [renewal, joining] = [lease('a', { add: ['d1'], setHash: setHash(['d1']) }), node('b')];
  table.renew(renewal, 0);
  table.join(joining, 'd1', true, 1_000, 0);
  // Whoever kept one of these would tell of this.
  for (const message of [renewal, joining]) message.addresses = ['10.9.9.9:9'];
  const told = table.holders('d1', 10).flatMap(({ addresses }) => addresses);
  t.same(told, ['10.0.0.1:1', '10.0.0.1:1']);
});
