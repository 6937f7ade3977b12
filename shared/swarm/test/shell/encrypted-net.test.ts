import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import type { Encryption } from '@sepia/base/config/encryption';
import { memberEncryption } from '@sepia/http/tls/cluster-encryption';
import { infoHashOf, torrentFile, v1PieceHash } from '@sepia/metainfo/torrent';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { readTorrent, StandardPeer } from '@sepia/test-support/clients/standard-peer';
import { until } from '@sepia/test-support/until';
import { FAKE_TLS } from '@sepia/test-support/upstream/fake-upstream-tls';
import t, { type Test } from 'tap';
import { encryptedNet, type SwarmNet, TCP } from '../../src/shell/net.ts';
import {
  blobOf,
  CLUSTER_KEY,
  completed,
  joinLeech,
  joinSeed,
  MemoryStore,
  startMember,
} from '../support/members.ts';

/** One byte all over: whatever goes of it in plain is found. */
const FILLED = 0x5a;
const BLOB = blobOf(new Uint8Array(3 * PIECE_BYTES + 99).fill(FILLED));
const RUN = Buffer.alloc(64, FILLED);

function netOf(policy: Encryption): SwarmNet {
  const encryption = memberEncryption(policy, CLUSTER_KEY);
  return encryption === undefined ? TCP : encryptedNet(encryption);
}

async function member(t: Test, name: string, policy: Encryption) {
  const made = await startMember(`${name} ${policy}`, { net: netOf(policy) });
  t.teardown(() => made.engine.stop());
  return made;
}

/** Leads to `address`, and keeps what goes through. */
async function relayTo(t: Test, address: string): Promise<{ address: string; heard: Buffer[] }> {
  const heard: Buffer[] = [];
  const port = Number(address.split(':')[1]);
  const relay = createServer((socket) => {
    const behind = connect(port, '127.0.0.1');
    for (const one of [socket, behind])
      one.on('error', () => one.destroy()).on('data', (chunk: Buffer) => heard.push(chunk));
    socket.on('close', () => behind.destroy());
    behind.on('close', () => socket.destroy());
    socket.pipe(behind).pipe(socket);
  }).listen(0, '127.0.0.1');
  await once(relay, 'listening');
  t.teardown(() => relay.close());
  return { address: `127.0.0.1:${(relay.address() as AddressInfo).port}`, heard };
}

/** How the blob went over the line from a seeder to a leecher that dials it. */
async function passed(t: Test, [from, to]: readonly [Encryption, Encryption]): Promise<string> {
  const seeder = await member(t, 'seeder', from);
  const leecher = await member(t, 'leecher', to);
  joinSeed(seeder, BLOB);
  const { address, heard } = await relayTo(t, seeder.address.addresses[0]!);
  const store = new MemoryStore(BLOB.bytes.length);
  const swarm = joinLeech(leecher, BLOB, store);
  swarm.addPeers([{ ...seeder.address, addresses: [address] }]);
  await completed(swarm);
  t.equal(Buffer.compare(store.bytes, BLOB.bytes), 0, `${from} to ${to}`);
  const line = Buffer.concat(heard);
  t.ok(line.length > BLOB.bytes.length);
  return line.includes(RUN) ? 'plain' : 'encrypted';
}

t.test('a blob goes encrypted where the policy says so, and from each step of it to the next', async (t) => {
  for (const [pair, how] of [
    [['off', 'accept'], 'plain'],
    [['accept', 'off'], 'plain'],
    [['accept', 'on'], 'encrypted'],
    [['on', 'accept'], 'plain'],
    [['on', 'require'], 'encrypted'],
    [['require', 'on'], 'encrypted'],
    [['require', 'require'], 'encrypted'],
  ] as const)
    t.equal(await passed(t, pair), how);
});

t.test(
  'a member that comes in plain where encryption is required gets nothing, nor does another key',
  async (t) => {
    const seeder = await member(t, 'seeder', 'require');
    joinSeed(seeder, BLOB);
    const plain = await member(t, 'leecher', 'accept');
    const other = memberEncryption('on', new Uint8Array(32).fill(8))!;
    const stranger = await startMember('other key', { net: encryptedNet(other) });
    t.teardown(() => stranger.engine.stop());
    for (const { engine } of [plain, stranger]) {
      const store = new MemoryStore(BLOB.bytes.length);
      const swarm = joinLeech({ engine }, BLOB, store);
      swarm.addPeers([seeder.address]);
      const allowed = await member(t, 'leecher beside', 'require');
      const right = joinLeech(allowed, BLOB);
      right.addPeers([seeder.address]);
      await completed(right);
      t.ok(store.bytes.every((byte) => byte === 0));
      await allowed.engine.stop();
    }
  },
);

t.test('standard clients stay in plain where members may not', async (t) => {
  const hashes: Uint8Array[] = [];
  for (let at = 0; at < BLOB.bytes.length; at += PIECE_BYTES)
    hashes.push(v1PieceHash(BLOB.bytes.subarray(at, at + PIECE_BYTES)));
  const facts = { digest: BLOB.digest, sizeBytes: BLOB.bytes.length, pieces: Buffer.concat(hashes) };
  const infoHash = Buffer.from(infoHashOf(facts), 'hex');
  const file = torrentFile(facts, { announce: ['http://tracker.example/announce'], webSeeds: [] });
  const torrent = readTorrent(Buffer.from(file));
  const first = new StandardPeer(torrent, { full: Buffer.from(BLOB.bytes), fast: true });
  t.teardown(() => first.stop());
  const port = await first.listen();
  const seeder = await member(t, 'among strangers', 'require');
  const store = new MemoryStore(BLOB.bytes.length);
  const swarm = joinLeech(seeder, BLOB, store);
  swarm.admitStrangers(infoHash, 60_000);
  swarm.addStrangers([`127.0.0.1:${port}`]);
  await completed(swarm);
  t.equal(Buffer.compare(store.bytes, BLOB.bytes), 0, 'dialled in plain');
  swarm.setLeech(false);

  const [host, ownPort] = seeder.address.addresses[0]!.split(':');
  const second = new StandardPeer(torrent, { fast: true });
  t.teardown(() => second.stop());
  await second.fetchFrom({ host: host!, port: Number(ownPort) });
  t.equal(createHash('sha256').update(second.bytes).digest('hex'), BLOB.digest.slice(7));

  const plain = await member(t, 'plain', 'accept');
  const empty = new MemoryStore(BLOB.bytes.length);
  joinLeech(plain, BLOB, empty).addPeers([seeder.address]);
  const allowed = await member(t, 'allowed', 'require');
  const right = joinLeech(allowed, BLOB);
  right.addPeers([seeder.address]);
  await completed(right);
  t.ok(
    empty.bytes.every((byte) => byte === 0),
    'a member that says no torrent and comes in plain',
  );
});

t.test('one host that dials and says nothing does not keep members out, nor the listener open', async (t) => {
  const seeder = await member(t, 'crowded seeder', 'require');
  joinSeed(seeder, BLOB);
  const port = Number(seeder.address.addresses[0]!.split(':')[1]);
  const greedy = Array.from({ length: 80 }, () =>
    connect({ port, host: '127.0.0.1', localAddress: '127.0.0.2' }),
  );
  for (const one of greedy) one.on('error', () => one.destroy()).resume();
  t.teardown(() => {
    for (const one of greedy) one.destroy();
  });
  await until(() => greedy.filter((one) => one.closed).length >= 16, 'those beyond its share are cut');
  const leecher = await member(t, 'patient leecher', 'require');
  const swarm = joinLeech(leecher, BLOB);
  swarm.addPeers([seeder.address]);
  await completed(swarm);
  await leecher.engine.stop();
  await seeder.engine.stop();
  await until(() => greedy.every((one) => one.closed), 'all are cut');
});

t.test('a wire is not dialled to who shows a certificate in place of the cluster key', async (t) => {
  const server = createTlsServer({ ...FAKE_TLS }, () => t.fail('it was believed')).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const encryption = memberEncryption('on', CLUSTER_KEY)!;
  const trusting = { ...encryption, client: { ...encryption.client, ca: FAKE_TLS.cert } };
  const { port } = server.address() as AddressInfo;
  const error = await new Promise((resolve) => {
    encryptedNet(trusting).dial(`127.0.0.1:${port}`, 5_000, (socket, why) => resolve(socket ?? why));
  });
  t.match(error, { code: 'TIMEOUT', cause: { message: /certificate in place of the cluster key/ } });
});
