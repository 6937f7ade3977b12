import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pushImage, randomImage, sha256 } from '@sepia/test-support/clients/registry-client';
import { readTorrent } from '@sepia/test-support/clients/standard-peer';
import { freePort, quietly, testbed, whyNoClients } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import { Up } from '@sepia/test-support/up';
import t from 'tap';

const MIB = 1024 * 1024;
const CLIENT_SECONDS = '120';
const why = whyNoClients();

/** A cluster that lets standard clients in, with one blob in it. */
async function start(dir: string, portsFrom: string) {
  const up = await Up.start(join(dir, 'data'), [
    ...['--origins', '2', '--trackers', '1', '--proxies', '1', '--agents', '1'],
    ...['--strangers', 'always', '--ports-from', portsFrom],
  ]);
  const image = randomImage([12 * MIB + 321]);
  await pushImage(() => up.cluster.proxies[0]!.url, 'team/app', 'v1', image);
  const { digest, bytes } = image.layers[0]!;
  const query = 'upstream=local&repository=team%2Fapp';
  const answer = await fetch(`${up.cluster.trackers[0]!.url}/v1/blobs/${digest}/torrent?${query}`);
  const file = Buffer.from(await answer.arrayBuffer());
  if (answer.status !== 200) throw new Error(`no torrent: ${answer.status} ${file}`);
  const path = join(dir, 'blob.torrent');
  writeFileSync(path, withoutWebSeeds(file));
  return { up, digest, bytes, torrent: path, name: readTorrent(file).name };
}

/** The web seeds would serve it all: without them, what comes, comes over the wire. */
function withoutWebSeeds(file: Buffer): Buffer {
  const at = file.indexOf('8:url-list');
  return Buffer.concat([file.subarray(0, at), Buffer.from('e')]);
}

const shaOf = (path: string): string =>
  `sha256:${createHash('sha256').update(readFileSync(path)).digest('hex')}`;

t.test('aria2c and transmission and a swarm', { skip: why ?? false, timeout: 500_000 }, async (t) => {
  const dir = t.testdir();
  const { up, digest, bytes, torrent, name } = await start(dir, '26000');
  t.teardown(() => up.stop());

  await t.test('aria2c downloads by .torrent, over the wire alone', async (t) => {
    const leech = join(dir, 'aria2');
    t.teardown(() => quietly('bt-clients.sh', ['stop', leech]));
    const port = String(await freePort());
    await testbed('bt-clients.sh', ['leech', 'aria2', leech, torrent, port, '--timeout', CLIENT_SECONDS]);
    t.equal(shaOf(join(leech, 'data', name)), digest);
  });

  await t.test('transmission downloads, though it cannot dial 127.0.0.1: an origin dials it', async (t) => {
    const leech = join(dir, 'leech');
    t.teardown(() => quietly('bt-clients.sh', ['stop', leech]));
    const port = String(await freePort());
    const options = ['--timeout', CLIENT_SECONDS];
    await testbed('bt-clients.sh', ['leech', 'transmission', leech, torrent, port, ...options]);
    t.equal(shaOf(join(leech, 'data', name)), digest);
  });

  await t.test('transmission seeds into the swarm while the origins are away', async (t) => {
    const seed = join(dir, 'transmission');
    mkdirSync(seed);
    t.teardown(() => quietly('bt-clients.sh', ['stop', seed]));
    const own = join(dir, 'blob');
    writeFileSync(own, bytes);
    const port = String(await freePort());
    await testbed('bt-clients.sh', ['seed', 'transmission', seed, torrent, own, port]);
    const url = `${up.cluster.agents[0]!.url}/v2/team/app/blobs/${digest}`;
    // Tracker and agent learn of the blob while an origin is there.
    const some = await fetch(url, { headers: { range: 'bytes=0-99' } });
    t.equal(some.status, 206);
    await some.arrayBuffer();
    await until(async () => (await seedsAt(up, torrent)) >= 3, 'transmission announced itself', 60_000);
    for (const origin of up.cluster.origins) process.kill(origin.pid, 'SIGSTOP');
    t.teardown(() => {
      for (const origin of up.cluster.origins) process.kill(origin.pid, 'SIGCONT');
    });
    const answer = await fetch(url);
    t.equal(sha256(Buffer.from(await answer.arrayBuffer())), digest);
    const counted = await up.bytesOf(up.cluster.agents[0]!);
    t.ok((counted['peer'] ?? 0) > 8 * MIB, `pieces came from it: ${JSON.stringify(counted)}`);
  });
});

/** Seeders that the tracker counts for a torrent, by scrape. */
async function seedsAt(up: Up, torrent: string): Promise<number> {
  const { infoHash } = readTorrent(readFileSync(torrent));
  const escaped = infoHash.toString('hex').replace(/../g, '%$&');
  const answer = await fetch(`${up.cluster.trackers[0]!.url}/scrape?info_hash=${escaped}`);
  const text = Buffer.from(await answer.arrayBuffer()).toString('latin1');
  return Number(/8:completei(\d+)e/.exec(text)?.[1] ?? 0);
}
