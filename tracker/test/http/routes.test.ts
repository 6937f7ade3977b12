import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import type { JoinAnswer } from '@sepia/cluster/api/join';
import type { LeaseAnswer, LeaseRequest } from '@sepia/cluster/api/lease';
import { digestHash, setHash } from '@sepia/cluster/api/set-hash';
import type { Cluster } from '@sepia/cluster/cluster';
import { createApp } from '@sepia/http/app';
import { createGate } from '@sepia/http/gate';
import { HttpListener } from '@sepia/http/listener';
import { Metainfo } from '@sepia/metainfo/metainfo';
import t, { type Test } from 'tap';
import { CommandBook } from '../../src/commands/core/command-book.ts';
import { Revocations } from '../../src/commands/core/revocations.ts';
import { memberRoutes, type RouteDeps } from '../../src/http/routes.ts';
import type { MetainfoKeeper } from '../../src/metainfo/metainfo-keeper.ts';
import type { StrangerDesk } from '../../src/strangers/stranger-desk.ts';
import { LiveFigures } from '../../src/swarms/core/live-figures.ts';
import { SwarmTable } from '../../src/swarms/core/swarm-table.ts';

/** A tracker's routes without a cluster around them; the test moves the clock. */
async function start(t: Test, heartbeatMs: number, more: Partial<RouteDeps> = {}) {
  const clock = { nowMs: 1_000_000 };
  const table = new SwarmTable(Math.random, digestHash);
  const deps: RouteDeps = {
    id: 't1',
    cluster: { version: 1 } as Cluster,
    table,
    keeper: { running: () => [] } as unknown as MetainfoKeeper,
    figures: new LiveFigures(),
    commands: new CommandBook(),
    revocations: new Revocations('e'),
    desk: { forNode: () => [] } as unknown as StrangerDesk,
    heartbeatMs,
    nowMs: () => clock.nowMs,
    startedMs: clock.nowMs,
    stopping: new AbortController().signal,
    ...more,
  };
  const app = createApp({ log: silentLogger(), gate: createGate({ open: { '/*': 'anyone' } }) });
  app.use(memberRoutes(deps));
  const listener = await HttpListener.start(app.callback(), '127.0.0.1:0', 'listen');
  t.teardown(() => listener.stop(0));
  let seq = 0;
  const beat = async (nodeId: string): Promise<LeaseAnswer> => {
    seq += 1;
    const lease: LeaseRequest = {
      bootId: 'b',
      seq,
      addresses: ['10.0.0.1:1'],
      // What an agent asks for that was told nothing yet, and in small clusters always.
      ttlMs: 25_000,
      add: [],
      drop: [],
      leeching: [],
      setHash: setHash([]),
      self: { version: 2, uptimeSeconds: 3, usedBytes: 4 },
    };
    const answer = await fetch(`${listener.url}/v1/nodes/${nodeId}`, {
      method: 'PUT',
      body: JSON.stringify(lease),
    });
    t.equal(answer.status, 200);
    return (await answer.json()) as LeaseAnswer;
  };
  const ages = async (): Promise<[string, number][]> => {
    const answer = await fetch(`${listener.url}/v1/status`);
    const { nodes } = (await answer.json()) as { nodes: { id: string; ageMs: number }[] };
    for (const node of nodes) t.match(node, { version: 2, uptimeSeconds: 3, usedBytes: 4 });
    return nodes.map(({ id, ageMs }) => [id, ageMs]);
  };
  return { clock, table, beat, ages, url: listener.url };
}

t.test('a lease outlasts the heartbeat that its node is told, however many there are', async (t) => {
  const { clock, table, beat } = await start(t, 10_000);
  for (let at = 0; at < 45_000; at++)
    table.join({ nodeId: `n${at}`, addresses: [] }, 'd', true, 3_600_000, clock.nowMs);
  for (let round = 0; round < 3; round++) {
    const { heartbeatMs } = await beat('me');
    t.ok(heartbeatMs > 25_000, 'longer than what it asks for');
    // Nodes spread their heartbeats by a fifth.
    clock.nowMs += heartbeatMs * 1.2;
    t.same(table.expire(clock.nowMs), [], `heartbeat ${round + 1}`);
  }
});

t.test('the status says how long ago a node was heard of, however short its heartbeats', async (t) => {
  const { clock, beat, ages } = await start(t, 1_000);
  await beat('a');
  clock.nowMs += 700;
  await beat('b');
  clock.nowMs += 200;
  t.same(await ages(), [
    ['a', 900],
    ['b', 200],
  ]);
});

t.test(
  'a holder that has left the cluster is not told of, and who joins is told of the others',
  async (t) => {
    const digest = digestOf(Buffer.from('x'));
    const metainfo = Metainfo.final(digest, 2 ** 20, Buffer.alloc(32, 1));
    const found = new Map(
      ['o1', 'o2'].map((id) => [id, { id, urls: [`http://${id}:1`], peers: [`${id}:2`] }]),
    );
    const cluster = {
      version: 1,
      findMember: (id: string) => found.get(id),
      origins: () => ({ owners: ['o1', 'o2'] }),
    } as unknown as Cluster;
    const keeper = {
      running: () => [],
      get: async () => ({ metainfo, originIds: ['gone', 'o2'] }),
    } as unknown as MetainfoKeeper;
    const desk = { forNode: () => [], forJoin: () => undefined } as unknown as StrangerDesk;
    const { url } = await start(t, 10_000, { cluster, keeper, desk });
    const asked = { nodeId: 'n', addresses: [], upstream: 'local', repository: 'app', leeching: true };
    const answer = await fetch(`${url}/v1/swarms/${digest}/join`, {
      method: 'POST',
      body: JSON.stringify(asked),
    });
    t.equal(answer.status, 200);
    const { owners, ...told } = (await answer.json()) as JoinAnswer;
    t.same(
      owners.map(({ id }) => id),
      ['o2', 'o1'],
    );
    t.same(told.kind === 'swarm' && told.peers.map(({ nodeId }) => nodeId), ['o2']);
  },
);
