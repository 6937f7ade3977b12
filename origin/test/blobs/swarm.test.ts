import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Bitfield } from '@sepia/base/bitfield';
import type { Digest } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { peerIdHexOf, peerIdOf } from '@sepia/base/names/peer-id';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceLength } from '@sepia/metainfo/tree';
import { SwarmEngine } from '@sepia/swarm/shell/engine';
import type { Swarm } from '@sepia/swarm/swarm';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import type { TestCluster } from '../support/cluster.ts';
import { startPullThrough } from '../support/pull-through.ts';

const HUB = 'upstream=hub&repository=lib/x';
const MIB = 1024 * 1024;

interface Agent {
  readonly have: Bitfield;
  readonly bytes: Buffer;
  readonly swarm: Swarm;
  readonly metainfo: Metainfo;
  readonly address: string;
}

/** An agent's engine in this process that wants all of a blob. */
async function joinAgent(t: Test, c: TestCluster, name: string, known: Metainfo): Promise<Agent> {
  const key = Buffer.from(readFileSync(join(c.dataOf('o1'), '..', 'key'), 'utf8'), 'hex');
  const engine = new SwarmEngine({ clusterKey: key, peerId: peerIdOf(name), log: silentLogger() });
  const { port } = await engine.listen('127.0.0.1:0');
  const address = `127.0.0.1:${port}`;
  t.teardown(async () => await engine.stop());
  const metainfo = Metainfo.decode(known.encode());
  const have = new Bitfield(metainfo.pieceCount);
  const bytes = Buffer.alloc(metainfo.sizeBytes);
  const swarm = engine.join({
    digest: metainfo.digest,
    metainfo,
    leech: true,
    pieces: {
      have,
      readPiece: async (piece, offset, length) =>
        bytes.subarray(piece * PIECE_BYTES + offset, piece * PIECE_BYTES + offset + length),
      writePiece: async (piece, data) => {
        bytes.set(data.subarray(0, pieceLength(metainfo.sizeBytes, piece)), piece * PIECE_BYTES);
        have.add(piece);
      },
    },
  });
  return { have, bytes, swarm, metainfo, address };
}

function originPeer(
  c: TestCluster,
  id: string,
): { peerId: string; addresses: readonly string[]; origin: boolean } {
  return { peerId: peerIdHexOf(id), addresses: c.origins.get(id)!.peerAddresses, origin: true };
}

async function follow(c: TestCluster, id: string, digest: Digest, agent: Agent): Promise<void> {
  while (agent.metainfo.state === 'open') {
    const path = `/v1/blobs/${digest}/metainfo?${HUB}&wait=2000&from=${agent.metainfo.knownPrefix}`;
    const next = await c.get(id, path, { 'if-none-match': agent.metainfo.etag });
    if (next.status === 304) continue;
    if (next.status !== 200) throw new Error(`${next.status} ${next.bytes.toString()}`);
    if (agent.metainfo.merge(Metainfo.decode(next.bytes)) === 'replaced') throw new Error('replaced');
    agent.swarm.metainfoChanged();
  }
}

t.test('an agent gets pieces from the origin while it still fetches them', async (t) => {
  const { upstream, c } = await startPullThrough(t, 1);
  upstream.rate = 4 * MIB;
  const blob = randomBytes(6 * MIB + 77);
  const digest = upstream.addBlob(blob) as Digest;
  const first = await c.get('o1', `/v1/blobs/${digest}/metainfo?${HUB}&fetch=1`);
  const agent = await joinAgent(t, c, 'agent-1', Metainfo.decode(first.bytes));
  agent.swarm.addPeers([originPeer(c, 'o1')]);
  let early = 0;
  agent.swarm.onPiece(() => {
    if (agent.metainfo.state === 'open') early += 1;
  });
  await follow(c, 'o1', digest, agent);
  await until(() => agent.have.complete, 'all pieces at the agent');
  t.ok(agent.bytes.equals(blob));
  t.ok(early >= 3, `${early} pieces came before the metainfo was final`);
  t.ok(upstream.bodyBytes <= blob.length * 1.01, `${upstream.bodyBytes} bytes from the upstream`);
});

t.test('a new leader takes from an agent what the dead one had handed out', async (t) => {
  const { upstream, c } = await startPullThrough(t, 3);
  upstream.rate = 4 * MIB;
  const blob = randomBytes(10 * MIB + 5);
  const digest = upstream.addBlob(blob) as Digest;
  const [leader = '', next = ''] = c.cluster.origins(digest).order;
  const first = await c.get(leader, `/v1/blobs/${digest}/metainfo?${HUB}&fetch=1`);
  const agent = await joinAgent(t, c, 'agent-2', Metainfo.decode(first.bytes));
  agent.swarm.addPeers([originPeer(c, leader)]);
  const following = follow(c, leader, digest, agent).catch(() => undefined);
  await until(() => agent.have.count >= 5, 'five pieces at the agent');
  await c.stop(leader);
  await following;
  const spentBefore = upstream.bodyBytes;
  const peers = [
    { peerId: peerIdHexOf('agent-2'), nodeId: 'agent-2', addresses: [agent.address], origin: false },
  ];
  const body = JSON.stringify({ metainfo: Buffer.from(agent.metainfo.encode()).toString('base64'), peers });
  const adopted = await c.call(next, {
    method: 'POST',
    path: `/v1/blobs/${digest}/adopt?${HUB}`,
    body,
    headers: { 'content-type': 'application/json' },
  });
  t.equal(adopted.status, 200, adopted.bytes.toString());
  agent.swarm.addPeers([originPeer(c, next)]);
  await follow(c, next, digest, agent);
  await until(() => agent.have.complete, 'all pieces at the agent');
  t.ok(agent.bytes.equals(blob));
  const got = await c.get(next, `/v1/blobs/${digest}?${HUB}`);
  t.ok(got.bytes.equals(blob), `${got.status}`);
  const spent = upstream.bodyBytes - spentBefore;
  t.ok(spent <= blob.length - 3 * MIB, `${spent} of ${blob.length} bytes asked again from the upstream`);
});
