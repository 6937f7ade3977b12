import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { CORE_LIMITS } from '../../src/core/limits.ts';
import type { HttpSource } from '../../src/swarm.ts';
import {
  completed,
  joinLeech,
  joinSeed,
  type Member,
  MemoryStore,
  makeBlob,
  startMember,
} from '../support/members.ts';

const MIB = PIECE_BYTES;

async function members(
  t: Test,
  names: readonly string[],
  origins: readonly string[] = [],
): Promise<Member[]> {
  const all: Member[] = [];
  for (const name of names) all.push(await startMember(name, { origin: origins.includes(name) }));
  t.teardown(() => Promise.all(all.map((member) => member.engine.stop())));
  return all;
}

function httpSource(
  bytes: Uint8Array,
  change: (index: number, piece: Uint8Array) => Uint8Array = (_i, piece) => piece,
): HttpSource {
  return {
    id: 'origin-http',
    has: () => true,
    fetchPiece: async (index) => change(index, bytes.slice(index * MIB, (index + 1) * MIB)),
  };
}

t.test('four leechers get a blob from one origin and each other', async (t) => {
  const blob = makeBlob(24 * MIB + 12_345);
  const all = await members(t, ['seed', 'a', 'b', 'c', 'd'], ['seed']);
  const peers = all.map((member) => member.address);
  joinSeed(all[0]!, blob);
  const stores: MemoryStore[] = [];
  const swarms = all.slice(1).map((member) => {
    const pieces = new MemoryStore(blob.bytes.length);
    stores.push(pieces);
    return joinLeech(member, blob, pieces);
  });
  for (const swarm of swarms) swarm.addPeers(peers);
  await Promise.all(swarms.map(completed));
  for (const store of stores) t.ok(Buffer.compare(store.bytes, blob.bytes) === 0, 'right bytes');
  let fromPeers = 0;
  let fromOrigin = 0;
  for (const swarm of swarms) {
    fromPeers += swarm.stats().bytesFromPeers;
    fromOrigin += swarm.stats().bytesFromOrigin;
  }
  t.equal(fromPeers + fromOrigin, 4 * blob.bytes.length);
  t.ok(fromPeers > fromOrigin, `peers ${fromPeers} origin ${fromOrigin}`);
  for (const member of all) t.equal(member.engine.slabsTaken, 0);
});

t.test('an open metainfo grows and pieces land at the origin one by one', async (t) => {
  const blob = makeBlob(6 * MIB);
  const [origin, agent] = (await members(t, ['o', 'ag'], ['o'])) as [Member, Member];
  const open = () => Metainfo.open(blob.digest, blob.bytes.length, 'ab'.repeat(16));
  const originInfo = open();
  const agentInfo = open();
  const store = new MemoryStore(blob.bytes.length);
  const pieces = new MemoryStore(blob.bytes.length);
  const seed = origin.engine.join({ digest: blob.digest, metainfo: originInfo, pieces: store, leech: false });
  const leech = agent.engine.join({ digest: blob.digest, metainfo: agentInfo, pieces, leech: true });
  leech.addPeers([origin.address]);
  const done = completed(leech);
  for (let index = 0; index < 6; index++) {
    const hash = blob.layer.subarray(index * 32, index * 32 + 32);
    originInfo.addHash(index, hash);
    await store.writePiece(index, blob.bytes.subarray(index * MIB, (index + 1) * MIB));
    seed.pieceLanded(index);
    const arrived = new Promise<void>((resolve) => leech.onPiece(() => resolve()));
    agentInfo.addHash(index, hash);
    leech.metainfoChanged();
    await arrived;
  }
  await done;
  t.ok(Buffer.compare(pieces.bytes, blob.bytes) === 0);
});

t.test('a liar is banned and everything completes right', async (t) => {
  const blob = makeBlob(10 * MIB);
  const [honest, liar, agent] = (await members(t, ['honest', 'liar', 'agent'])) as [Member, Member, Member];
  const lies = new MemoryStore(blob.bytes.length, blob.bytes);
  lies.twist = (_index, bytes) => {
    const copy = bytes.slice();
    copy[5]! ^= 1;
    return copy;
  };
  joinSeed(honest, blob);
  const complaints: number[] = [];
  const told = Object.assign(lies, { complained: (index: number) => void complaints.push(index) });
  joinSeed(liar, blob, told);
  const pieces = new MemoryStore(blob.bytes.length);
  const swarm = joinLeech(agent, blob, pieces);
  const bad = new Promise<{ index: number; peerId: string }>((resolve) => swarm.onBadPiece(resolve));
  swarm.addPeers([liar.address]);
  const wrong = await bad;
  t.equal(wrong.peerId, liar.peerId);
  await until(() => complaints.length > 0, 'a complaint');
  t.same(complaints, [wrong.index], 'the liar is told which piece to look at');
  swarm.addPeers([honest.address, liar.address]);
  await completed(swarm);
  t.ok(Buffer.compare(pieces.bytes, blob.bytes) === 0);
  t.notOk(swarm.stats().links.some((link) => link.peerId === liar.peerId));
});

t.test('a source that never answers is left long before it counts as hung', async (t) => {
  const blob = makeBlob(4 * MIB);
  const [good, hung, agent] = (await members(t, ['good', 'hung', 'agent'])) as [Member, Member, Member];
  const never = new MemoryStore(blob.bytes.length, blob.bytes);
  never.twist = () => new Promise<Uint8Array>(() => {});
  joinSeed(good, blob);
  joinSeed(hung, blob, never);
  const pieces = new MemoryStore(blob.bytes.length);
  const swarm = joinLeech(agent, blob, pieces);
  swarm.openReader(0);
  const startMs = performance.now();
  swarm.addPeers([good.address, hung.address]);
  await completed(swarm);
  const tookMs = performance.now() - startMs;
  t.ok(tookMs < CORE_LIMITS.hungMs, `took ${tookMs} ms`);
  t.ok(Buffer.compare(pieces.bytes, blob.bytes) === 0);
});

t.test('the seeder is killed, another source finishes', async (t) => {
  const blob = makeBlob(16 * MIB);
  const [first, second, agent] = (await members(t, ['first', 'second', 'agent'], ['first', 'second'])) as [
    Member,
    Member,
    Member,
  ];
  for (const one of [first, second]) {
    joinSeed(one, blob);
  }
  const swarm = joinLeech(agent, blob);
  const done = completed(swarm);
  const some = new Promise<void>((resolve) => swarm.onPiece(() => resolve()));
  swarm.addPeers([first.address]);
  await some;
  await first.engine.stop();
  swarm.addPeers([second.address]);
  await done;
  t.equal(swarm.stats().bytesFromOrigin, blob.bytes.length);
});

t.test('an HTTP source alone is enough, also after a bad piece', async (t) => {
  const blob = makeBlob(5 * MIB + 17);
  const [agent] = (await members(t, ['agent'])) as [Member];
  let lies = 1;
  const pieces = new MemoryStore(blob.bytes.length);
  const swarm = joinLeech(agent, blob, pieces);
  const done = completed(swarm);
  const bad: string[] = [];
  swarm.onBadPiece((one) => bad.push(one.peerId));
  swarm.setHttpSources([httpSource(blob.bytes, (_index, piece) => (lies-- > 0 ? piece.fill(0) : piece))]);
  await done;
  t.strictSame(bad, ['origin-http']);
  t.ok(Buffer.compare(pieces.bytes, blob.bytes) === 0);
  t.equal(swarm.stats().bytesFromOrigin, blob.bytes.length);
});

t.test('peers come before HTTP', async (t) => {
  const blob = makeBlob(16 * MIB);
  const [seed, agent] = (await members(t, ['seed', 'agent'])) as [Member, Member];
  joinSeed(seed, blob);
  const swarm = joinLeech(agent, blob);
  const done = completed(swarm);
  swarm.addPeers([seed.address]);
  swarm.setHttpSources([httpSource(blob.bytes)]);
  swarm.openReader(0);
  await done;
  const stats = swarm.stats();
  t.ok(stats.bytesFromPeers >= 12 * MIB, `peers ${stats.bytesFromPeers} http ${stats.bytesFromOrigin}`);
});

t.test('two that dial each other keep one wire', async (t) => {
  const blob = makeBlob(8 * MIB);
  const [x, y] = (await members(t, ['x', 'y'])) as [Member, Member];
  const stores = [x, y].map(() => new MemoryStore(blob.bytes.length));
  for (let index = 0; index < 8; index++) {
    await stores[index % 2]!.writePiece(index, blob.bytes.subarray(index * MIB, (index + 1) * MIB));
  }
  const a = joinLeech(x, blob, stores[0]!);
  const b = joinLeech(y, blob, stores[1]!);
  const done = Promise.all([completed(a), completed(b)]);
  a.addPeers([y.address]);
  b.addPeers([x.address]);
  await done;
  t.ok(a.stats().links.length <= 1 && b.stats().links.length <= 1);
});

t.test('a member without the key gets nothing; nobody to ask: wants peers', async (t) => {
  const blob = makeBlob(2 * MIB);
  const [seed] = (await members(t, ['seed'])) as [Member];
  const stranger = await startMember(
    'stranger',
    { limits: { wantPeersMs: 300 } },
    new Uint8Array(32).fill(9),
  );
  t.teardown(() => stranger.engine.stop());
  const store = new MemoryStore(blob.bytes.length, blob.bytes);
  joinSeed(seed, blob, store);
  const swarm = joinLeech(stranger, blob);
  const wants = new Promise<void>((resolve) => swarm.onWantPeers(resolve));
  swarm.addPeers([seed.address]);
  await wants;
  t.equal(store.reads, 0);
  t.equal(swarm.stats().links.length, 0);
});

t.test('a peer that dropped the swarm is no liar: it may come back', async (t) => {
  const blob = makeBlob(2 * MIB);
  const [seed, agent] = (await members(t, ['seed', 'agent'])) as [Member, Member];
  const swarm = joinLeech(agent, blob);
  const done = completed(swarm);
  swarm.addPeers([seed.address]);
  await new Promise<void>((resolve) => swarm.onWantPeers(resolve));
  joinSeed(seed, blob);
  await done;
  t.pass('complete');
});
