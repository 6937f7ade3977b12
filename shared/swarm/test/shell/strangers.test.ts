import { createHash } from 'node:crypto';
import { infoHashOf, torrentFile, v1PieceHash } from '@sepia/metainfo/torrent';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { readTorrent, StandardPeer } from '@sepia/test-support/clients/standard-peer';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { completed, joinLeech, joinSeed, MemoryStore, makeBlob, startMember } from '../support/members.ts';

const OPEN_MS = 60_000;

/** A blob with the torrent that a standard client reads. */
function blobWithTorrent(sizeBytes: number) {
  const blob = makeBlob(sizeBytes);
  const hashes: Uint8Array[] = [];
  for (let at = 0; at < sizeBytes; at += PIECE_BYTES)
    hashes.push(v1PieceHash(blob.bytes.subarray(at, at + PIECE_BYTES)));
  const facts = { digest: blob.digest, sizeBytes, pieces: Buffer.concat(hashes) };
  const file = torrentFile(facts, { announce: ['http://tracker.example/announce'], webSeeds: [] });
  return {
    ...blob,
    sizeBytes,
    infoHash: Buffer.from(infoHashOf(facts), 'hex'),
    torrent: readTorrent(Buffer.from(file)),
  };
}

t.test('the infohash is what a client finds', async (t) => {
  const blob = blobWithTorrent(2 * PIECE_BYTES + 5);
  t.same(blob.torrent.infoHash, blob.infoHash);
  t.equal(blob.torrent.pieceBytes, PIECE_BYTES);
  t.ok(blob.torrent.isPrivate);
});

t.test('a member takes pieces from a standard client, and gives them', async (t) => {
  for (const fast of [false, true]) {
    const blob = blobWithTorrent(5 * PIECE_BYTES + 77);
    const seeder = new StandardPeer(blob.torrent, { full: Buffer.from(blob.bytes), fast });
    const port = await seeder.listen();
    const member = await startMember(`leecher ${fast}`);
    const store = new MemoryStore(blob.sizeBytes);
    const swarm = joinLeech(member, blob, store);
    swarm.admitStrangers(blob.infoHash, OPEN_MS);
    swarm.addStrangers([`127.0.0.1:${port}`]);
    await completed(swarm);
    t.equal(Buffer.compare(store.bytes, blob.bytes), 0, `fast: ${fast}`);
    t.equal(swarm.stats().bytesFromStrangers, blob.sizeBytes, 'counted as what they are');
    swarm.setLeech(false);

    const [host, ownPort] = member.address.addresses[0]!.split(':');
    const leecher = new StandardPeer(blob.torrent, { fast });
    await leecher.fetchFrom({ host: host!, port: Number(ownPort) });
    t.equal(createHash('sha256').update(leecher.bytes).digest('hex'), blob.digest.slice(7));
    for (const one of [seeder, leecher]) await one.stop();
    await member.engine.stop();
  }
});

t.test(
  'a client that lies is found out by the tree and left alone; the rest comes from members',
  async (t) => {
    const blob = blobWithTorrent(3 * PIECE_BYTES);
    const liar = new StandardPeer(blob.torrent, { full: Buffer.from(blob.bytes) });
    liar.twist = (_index, block) => Buffer.concat([Buffer.from([block[0]! ^ 1]), block.subarray(1)]);
    const port = await liar.listen();
    const origin = await startMember('origin', { origin: true });
    const full = new MemoryStore(blob.sizeBytes, blob.bytes);
    joinSeed(origin, blob, full);
    const member = await startMember('victim');
    t.teardown(async () => {
      await liar.stop();
      await member.engine.stop();
      await origin.engine.stop();
    });
    const store = new MemoryStore(blob.sizeBytes);
    const swarm = joinLeech(member, blob, store);
    const bad: string[] = [];
    swarm.onBadPiece(({ peerId }) => bad.push(peerId));
    swarm.admitStrangers(blob.infoHash, OPEN_MS);
    swarm.addStrangers([`127.0.0.1:${port}`]);
    await until(() => bad.length > 0, 'a wrong piece');
    t.match(bad[0], /^stranger 127\.0\.0\.1:/);
    t.equal(store.have.count, 0, 'nothing of it was kept');
    swarm.addPeers([origin.address]);
    await completed(swarm);
    t.equal(Buffer.compare(store.bytes, blob.bytes), 0);
    t.equal(swarm.stats().bytesFromStrangers, 0);
  },
);

t.test('a swarm that is not open, or not any more, answers no stranger', async (t) => {
  const blob = blobWithTorrent(PIECE_BYTES);
  const member = await startMember('seeder');
  t.teardown(() => member.engine.stop());
  const full = new MemoryStore(blob.sizeBytes, blob.bytes);
  const swarm = joinSeed(member, blob, full);
  const [host, port] = member.address.addresses[0]!.split(':');
  const place = { host: host!, port: Number(port) };
  const before = new StandardPeer(blob.torrent);
  await before.fetchFrom(place);
  t.notOk(before.isWhole, 'closed: the connection ends');

  swarm.admitStrangers(blob.infoHash, OPEN_MS);
  const during = new StandardPeer(blob.torrent);
  await during.fetchFrom(place);
  t.ok(during.isWhole);

  swarm.admitStrangers(blob.infoHash, 0);
  const after = await until(async () => {
    const peer = new StandardPeer(blob.torrent);
    await peer.fetchFrom(place);
    return peer.isWhole ? undefined : peer;
  }, 'its time is over');
  t.notOk(after.isWhole);
});
