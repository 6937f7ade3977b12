import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { StopStack } from '@sepia/base/lifecycle';
import { S3_CREDENTIALS, S3_ENV, S3Server } from '@sepia/test-support/s3/s3-server';
import { until } from '@sepia/test-support/until';
import { Up } from '@sepia/test-support/up';
import { MadeBlob, pushImage } from './support/blobs.ts';
import { curl, type Transfer } from './support/curl.ts';
import { MIB, median, round, spread } from './support/figures.ts';
import { blobUrl, REPOSITORY } from './support/image.ts';
import { SlowLink } from './support/link.ts';
import { startRegistry } from './support/loopback.ts';
import { IdleMeter, quietMachine } from './support/machine.ts';
import { runBench } from './support/run.ts';

const BUCKET = 'blobs';
const WRITTEN_MS = 600_000;
const PORTS_FROM = '24000';
/** Of an ordinary registry, read through beside the bucket. */
const REGISTRY_HOST = 'bench.test';

const MANIFEST_ARGS = ['--header', 'Accept: application/vnd.oci.image.manifest.v1+json'];

await runBench({
  id: 's3',
  claim:
    'read-through of a bucket, cold at the origin, beside the S3 server itself: first byte ≤ direct + 10 ms, throughput ≥ 0.9 × direct; beside docker-registry read through; and over a link',
  options: { size: 16, samples: 20, big: 512, rounds: 3, link: 100, delay: 1 },
  run: async ({ stops, dir, number, say }) => {
    const make = (count: number, mib: number): MadeBlob[] =>
      Array.from({ length: count }, () => new MadeBlob(mib * MIB));
    const [samples, size, rounds, big] = [number('samples'), number('size'), number('rounds'), number('big')];
    const near = { small: make(samples, size), big: make(rounds, big) };
    const far = { small: make(samples, size), big: make(rounds, big) };
    const plain = { small: make(samples, size), big: make(rounds, big) };
    const server = await S3Server.start();
    stops.push('S3 server', async () => await server.remove());
    server.makeBucket(BUCKET);
    const registry = await startRegistry(stops, dir);
    await pushImage(registry.url, REPOSITORY, [...plain.small, ...plain.big]);
    const data = join(dir, 'cluster');
    const filled = await start(data, { endpoint: server.url, registry: registry.url }, stops);
    const content = [near, far].flatMap((one) => [...one.small, ...one.big]);
    await pushImage(filled.cluster.proxies[0]!.url, REPOSITORY, content);
    await until(async () => (await owed(filled)) === 0, 'all is in the bucket', WRITTEN_MS);
    await filled.stop();
    // The origin keeps its records and begins with no blob.
    const { name } = filled.cluster.origins[0]!;
    for (const kind of ['blobs', 'meta', 'leaves'])
      rmSync(join(data, 'members', name, 'v1', kind), { recursive: true, force: true });
    const up = await start(data, { endpoint: server.url, registry: registry.url }, stops);
    const proxy = up.cluster.proxies[0]!.url;
    await curl(`${proxy}/v2/${REGISTRY_HOST}/${REPOSITORY}/manifests/v1`, { args: MANIFEST_ARGS });
    say('the origin is cold');
    const through = (blob: MadeBlob): Promise<Transfer> => curl(blobUrl(proxy, blob.digest));
    const ordinary = (blob: MadeBlob): Promise<Transfer> =>
      curl(`${proxy}/v2/${REGISTRY_HOST}/${REPOSITORY}/blobs/${blob.digest}`);
    const quiet = await quietMachine();
    const meter = new IdleMeter();
    const bucket = await pairOf(near, directOf(server.url), through);
    const pulled = await pairOf(plain, (blob) => curl(blobUrl(registry.url, blob.digest)), ordinary);
    const idle = meter.percent();
    await up.stop();
    const link = await SlowLink.start(Number(new URL(server.url).port), {
      megabytes: number('link'),
      delayMs: number('delay'),
    });
    stops.push('link', async () => await link.stop());
    const endpoint = `http://127.0.0.1:${link.port}`;
    const behind = await start(data, { endpoint, before: server.url, registry: registry.url }, stops);
    const farProxy = behind.cluster.proxies[0]!.url;
    const farMeter = new IdleMeter();
    const linked = await pairOf(far, directOf(endpoint), (blob) => curl(blobUrl(farProxy, blob.digest)));
    return {
      ...{ bucket, pulledFromDockerRegistry: pulled, bucketBehindLink: linked },
      ...{ idleBeforePercent: quiet, idlePercent: idle, idleBehindLinkPercent: farMeter.percent() },
    };
  },
});

type Read = (blob: MadeBlob) => Promise<Transfer>;

interface Content {
  readonly small: readonly MadeBlob[];
  readonly big: readonly MadeBlob[];
}

/** The source itself and Sepia in front of it, in turn. */
async function pairOf({ small, big }: Content, direct: Read, through: Read): Promise<object> {
  const first = { direct: [] as number[], through: [] as number[] };
  // The first one opens connections.
  await direct(small[0]!);
  await through(small[0]!);
  for (const blob of small.slice(1)) {
    first.direct.push((await direct(blob)).firstByteSeconds * 1000);
    first.through.push((await through(blob)).firstByteSeconds * 1000);
  }
  const rates = { direct: [] as number[], through: [] as number[] };
  for (const blob of big) {
    rates.direct.push(blob.sizeBytes / MIB / (await direct(blob)).seconds);
    rates.through.push(blob.sizeBytes / MIB / (await through(blob)).seconds);
  }
  return {
    firstByteMs: { direct: spread(first.direct), through: spread(first.through) },
    moreMs: round(median(first.through) - median(first.direct), 1),
    mibPerSecond: { direct: round(median(rates.direct), 0), through: round(median(rates.through), 0) },
    share: round(median(rates.through) / median(rates.direct), 2),
  };
}

/** curl, asking the store itself. */
function directOf(endpoint: string): Read {
  return async (blob) => {
    const hex = blob.digest.slice('sha256:'.length);
    const { accessKeyId, secretAccessKey } = S3_CREDENTIALS;
    // curl leaves this header out, and stores want it.
    const header = ['--header', 'x-amz-content-sha256: UNSIGNED-PAYLOAD'];
    const user = ['--user', `${accessKeyId}:${secretAccessKey}`];
    const args = ['--aws-sigv4', 'aws:amz:us-east-1:s3', ...user, ...header];
    return await curl(`${endpoint}/${BUCKET}/blobs/sha256/${hex.slice(0, 2)}/${hex}`, { args });
  };
}

/** One member of each role; upstream `local` rests in the bucket, `bench` is a registry that is pulled through. */
async function start(
  dir: string,
  {
    endpoint,
    before,
    registry,
  }: { readonly endpoint: string; readonly before?: string; readonly registry: string },
  stops: StopStack,
): Promise<Up> {
  Object.assign(process.env, S3_ENV);
  mkdirSync(dir, { recursive: true });
  // Behind a link the same bucket has another address.
  const moved = before === undefined ? {} : { 'moved-from': `s3://${BUCKET}/ at ${new URL(before).host}` };
  const upstreams = [
    { name: 'local', mode: 'none', backend: { s3: { bucket: BUCKET, endpoint }, ...moved } },
    { name: 'bench', mode: 'pull-through', url: registry, hosts: [REGISTRY_HOST] },
  ];
  writeFileSync(join(dir, 'cluster-document.yaml'), JSON.stringify({ version: 1, members: [], upstreams }));
  const counts = ['origins', 'trackers', 'proxies', 'agents'].flatMap((role) => [`--${role}`, '1']);
  const up = await Up.start(dir, [...counts, '--ports-from', PORTS_FROM]);
  stops.push('cluster', async () => {
    await up.stop();
  });
  return up;
}

async function owed(up: Up): Promise<number> {
  const text = await (await fetch(`${up.cluster.origins[0]!.adminUrl}/metrics`)).text();
  return Number(/^sepia_origin_backend_owed\{[^}]*\} (\d+)/m.exec(text)?.[1] ?? Number.NaN);
}
