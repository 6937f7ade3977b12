import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { callUntilAnswered } from '@sepia/test-support/clients/registry-calls';
import { pushUntilTaken, randomImage, sha256 } from '@sepia/test-support/clients/registry-client';
import { readTorrent } from '@sepia/test-support/clients/standard-peer';
import { freePort, must, quietly, run, testbed, whyNoClients } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import { Up } from '@sepia/test-support/up';
import t, { type Test } from 'tap';

const SEPIA = join(import.meta.dirname, '../../../sepia');
const LIBTORRENT = join(import.meta.dirname, 'support/libtorrent.sh');
const MIB = 1024 * 1024;
const CLIENT_SECONDS = '120';
const why = whyNoClients();

/** A blob of the cluster as clients know it. */
interface Blob {
  readonly digest: string;
  readonly bytes: Buffer;
  /** As it was made. */
  readonly file: Buffer;
  /** Path of the same without web seeds: they would serve it all, and what comes is to come over the wire. */
  readonly torrent: string;
  readonly name: string;
}

/** A cluster that lets standard clients in, with three blobs in it: a tracker goes on telling of those that left. */
async function start(dir: string, portsFrom: string): Promise<{ up: Up; blobs: Blob[] }> {
  const up = await Up.start(join(dir, 'data'), [
    ...['--origins', '2', '--trackers', '1', '--proxies', '1', '--agents', '1'],
    ...['--strangers', 'always', '--ports-from', portsFrom],
  ]);
  const image = randomImage([12 * MIB + 321, 12 * MIB + 54_321, 12 * MIB + 1]);
  await pushUntilTaken(() => up.cluster.proxies[0]!.url, 'team/app', 'v1', image);
  const tracker = up.cluster.trackers[0]!.url;
  const blobs: Blob[] = [];
  for (const { digest, bytes } of image.layers) {
    await must(SEPIA, ['torrent', 'team/app', digest, '--tracker', tracker, '--output', dir]);
    const file = readFileSync(join(dir, `${digest.replace(':', '-')}.torrent`));
    const torrent = join(dir, `${blobs.length}.torrent`);
    writeFileSync(torrent, withoutWebSeeds(file));
    blobs.push({ digest, bytes, file, torrent, name: readTorrent(file).name });
  }
  return { up, blobs };
}

function withoutWebSeeds(file: Buffer): Buffer {
  const at = file.indexOf('8:url-list');
  return Buffer.concat([file.subarray(0, at), Buffer.from('e')]);
}

function withoutTrackers(file: Buffer): Buffer {
  return Buffer.concat([Buffer.from('d'), file.subarray(file.indexOf('10:created by'))]);
}

const shaOf = (path: string): string =>
  `sha256:${createHash('sha256').update(readFileSync(path)).digest('hex')}`;

t.test('standard clients and a swarm', { skip: why ?? false, timeout: 1_100_000 }, async (t) => {
  const dir = t.testdir();
  const { up, blobs } = await start(dir, '26000');
  t.teardown(() => up.stop());
  const { digest, file, torrent, name } = blobs[0]!;

  await t.test('"sepia torrent" writes one for each blob of an image', async (t) => {
    const all = join(dir, 'all');
    const agent = up.cluster.agents[0]!.url;
    const tracker = up.cluster.trackers[0]!.url;
    await must(SEPIA, ['torrent', 'team/app:v1', '--agent', agent, '--tracker', tracker, '--output', all]);
    t.equal(readdirSync(all).length, 4, 'config and layers');
    t.same(readFileSync(join(all, `${name}.torrent`)), file);
  });

  for (const client of ['aria2', 'transmission'])
    await t.test(`${client} downloads by .torrent, over the wire alone`, async (t) => {
      // transmission does not dial 127.0.0.1: an origin dials it.
      const leech = join(dir, client);
      t.teardown(() => quietly('bt-clients.sh', ['stop', leech]));
      const port = String(await freePort());
      await testbed('bt-clients.sh', ['leech', client, leech, torrent, port, '--timeout', CLIENT_SECONDS]);
      t.equal(shaOf(join(leech, 'data', name)), digest);
    });

  await t.test('aria2c downloads from the web seeds alone', async (t) => {
    const web = join(dir, 'web.torrent');
    writeFileSync(web, withoutTrackers(file));
    const quiet = ['--enable-dht=false', '--bt-enable-lpd=false', '--file-allocation=none', '--seed-time=0'];
    await must('aria2c', ['--no-conf', ...quiet, `--dir=${join(dir, 'web')}`, web]);
    t.equal(shaOf(join(dir, 'web', name)), digest);
  });

  const hasLibtorrent = (await run(LIBTORRENT, ['--check'])).code === 0;
  const skip = hasLibtorrent ? false : `${LIBTORRENT} has not installed it`;
  await t.test('libtorrent downloads by .torrent, over the wire alone', { skip }, async (t) => {
    const leech = join(dir, 'libtorrent');
    await must(LIBTORRENT, [torrent, leech, String(await freePort()), CLIENT_SECONDS]);
    t.equal(shaOf(join(leech, name)), digest);
  });

  await t.test('transmission seeds into the swarm while the origins are away', async (t) => {
    await seeds(t, up, blobs[1]!, 'transmission', join(dir, 'seed-0'));
  });

  await t.test('so does aria2c', async (t) => {
    await seeds(t, up, blobs[2]!, 'aria2', join(dir, 'seed-1'));
  });
});

/** A client that has the blob, and no other before it, seeds it to an agent that has it not, and no origin answers. */
async function seeds(t: Test, up: Up, blob: Blob, client: string, seed: string): Promise<void> {
  mkdirSync(seed);
  t.teardown(() => quietly('bt-clients.sh', ['stop', seed]));
  const own = join(seed, 'blob');
  writeFileSync(own, blob.bytes);
  await testbed('bt-clients.sh', ['seed', client, seed, blob.torrent, own, String(await freePort())]);
  const agent = up.cluster.agents[0]!;
  const url = `${agent.url}/v2/team/app/blobs/${blob.digest}`;
  // Tracker and agent learn of the blob while an origin is there.
  const some = await callUntilAnswered('GET', url, { headers: { range: 'bytes=0-99' } });
  t.equal(some.status, 206);
  await until(async () => (await seedsAt(up, blob.torrent)) >= 3, `${client} announced itself`, 180_000);
  const before = (await up.bytesOf(agent))['peer'] ?? 0;
  for (const origin of up.cluster.origins) process.kill(origin.pid, 'SIGSTOP');
  t.teardown(() => {
    for (const origin of up.cluster.origins) process.kill(origin.pid, 'SIGCONT');
  });
  const whole = await callUntilAnswered('GET', url);
  t.equal(whole.status, 200);
  t.equal(sha256(whole.bytes), blob.digest);
  const counted = await up.bytesOf(agent);
  t.ok((counted['peer'] ?? 0) - before > 8 * MIB, `pieces came from it: ${JSON.stringify(counted)}`);
}

/** Seeders that the tracker counts for a torrent, by scrape. */
async function seedsAt(up: Up, torrent: string): Promise<number> {
  const { infoHash } = readTorrent(readFileSync(torrent));
  const escaped = infoHash.toString('hex').replace(/../g, '%$&');
  const answer = await fetch(`${up.cluster.trackers[0]!.url}/scrape?info_hash=${escaped}`);
  const text = Buffer.from(await answer.arrayBuffer()).toString('latin1');
  return Number(/8:completei(\d+)e/.exec(text)?.[1] ?? 0);
}
