import { pushBlob } from '@sepia/test-support/clients/registry-calls';
import { pushUntilTaken, randomImage, sha256 } from '@sepia/test-support/clients/registry-client';
import { announce, readTorrent, StandardPeer } from '@sepia/test-support/clients/standard-peer';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import t from 'tap';
import { request } from 'undici';

const MIB = 1024 * 1024;
const ALWAYS = { document: { policies: { strangers: 'always', 'stranger-interval': '5s' } } };

async function torrentOf(
  cluster: Constellation,
  digest: string,
  repository = 'demo/app',
  upstream = 'local',
) {
  const query = `upstream=${upstream}&repository=${encodeURIComponent(repository)}`;
  const answer = await request(`${cluster.trackerUrls[0]}/v1/blobs/${digest}/torrent?${query}`);
  const bytes = Buffer.from(await answer.body.arrayBuffer());
  return { status: answer.statusCode, type: answer.headers['content-type'], bytes };
}

t.test(
  'a standard client downloads a blob by its torrent, with and without the fast extension',
  async (t) => {
    await using cluster = await Constellation.start(t.testdir(), { agents: 0, ...ALWAYS });
    const image = randomImage([3 * MIB + 123]);
    await pushUntilTaken(() => cluster.proxyUrls[0]!, 'demo/app', 'v1', image);
    const { digest, bytes } = image.layers[0]!;
    const { status, type, bytes: file } = await torrentOf(cluster, digest);
    t.equal(status, 200, file.toString());
    t.equal(type, 'application/x-bittorrent');
    const torrent = readTorrent(file);
    t.match(torrent, {
      sizeBytes: bytes.length,
      pieceBytes: MIB,
      isPrivate: true,
      name: digest.replace(':', '-'),
    });
    t.equal(torrent.hashes.length, 4);
    t.equal(torrent.announce.length, 2, 'every tracker');
    const byHost = await torrentOf(cluster, digest, 'demo/app', new URL(cluster.proxyUrls[0]!).host);
    t.same(byHost.bytes, file, 'an upstream may be named by one of its hosts');
    t.equal((await torrentOf(cluster, digest, 'demo/app', 'nowhere.example')).status, 404);
    const empty = await pushBlob(cluster.proxyUrls[0]!, 'demo/app', Buffer.alloc(0));
    const none = await torrentOf(cluster, empty);
    t.match([none.status, String(none.bytes)], [400, /an empty blob has no torrent/]);

    for (const fast of [false, true]) {
      const peer = new StandardPeer(torrent, { fast });
      t.teardown(() => peer.stop());
      const port = await peer.listen();
      const places = await announce(torrent.announce[0]!, torrent, { ...peer, left: peer.left, port });
      t.ok(places.length > 0, 'origins that have it are told');
      await peer.fetchFrom(places[0]!);
      t.equal(sha256(peer.bytes), digest, `fast: ${fast}`);
    }
    const dialer = new StandardPeer(torrent);
    t.teardown(() => dialer.stop());
    const told = async (port: number) =>
      await announce(torrent.announce[0]!, torrent, { ...dialer, left: dialer.left, port });
    const [place] = await told(0);
    await dialer.fetchFrom(place!);
    t.equal(sha256(dialer.bytes), digest, 'who takes no connections dials');
    t.notOk(
      (await told(6881)).some(({ port }) => port === 0),
      'nobody is sent to it',
    );
    const seed = await request(torrent.webSeeds[0]!);
    t.equal(sha256(Buffer.from(await seed.body.arrayBuffer())), digest, 'the web seed has it too');
  },
);

t.test('a standard client seeds into a swarm whose origins are away', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { agents: 1, origins: 1, ...ALWAYS });
  const image = randomImage([6 * MIB + 5]);
  await pushUntilTaken(() => cluster.proxyUrls[0]!, 'demo/app', 'v1', image);
  const { digest, bytes } = image.layers[0]!;
  const torrent = readTorrent((await torrentOf(cluster, digest)).bytes);
  const peer = new StandardPeer(torrent, { full: Buffer.from(bytes) });
  t.teardown(() => peer.stop());
  const port = await peer.listen();
  await announce(torrent.announce[0]!, torrent, { ...peer, left: 0, port });
  const url = `${cluster.agents[0]!.url}/v2/demo/app/blobs/${digest}`;
  // The tracker and the agent learn of the blob while an origin is there.
  const head = await request(url, { headers: { range: 'bytes=0-9' } });
  await head.body.dump();
  await cluster.stopMember('origin-1');
  const answer = await request(url);
  t.equal(sha256(Buffer.from(await answer.body.arrayBuffer())), digest);
  t.ok(peer.served.size > 0, 'the stranger was asked');
});
