import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { digestOf } from '@sepia/base/digest';
import type { GcReport } from '@sepia/cluster/api/gc-report';
import { callUntilAnswered, deleteManifest } from '@sepia/test-support/clients/registry-calls';
import {
  type PushedImage,
  pullUntilGiven,
  pushUntilTaken,
  randomImage,
} from '@sepia/test-support/clients/registry-client';
import { openUploads } from '@sepia/test-support/s3/s3-client';
import { S3Faults } from '@sepia/test-support/s3/s3-faults';
import { noS3, S3_ENV, S3Server } from '@sepia/test-support/s3/s3-server';
import { until } from '@sepia/test-support/until';
import { Up } from '@sepia/test-support/up';
import t, { type Test } from 'tap';

const SEPIA = resolve(import.meta.dirname, '../../../sepia');
const MIB = 1024 * 1024;
const REPOSITORY = 'team/app';
const PREFIX = 'sepia/';
/** What an origin may hold before it lets go of what it can fetch again. */
const BUDGET = '64MiB';
/** All waits: others than the writer look for a blob less and less often, up to once a minute. */
const LONG_MS = 240_000;

interface Bed {
  readonly up: Up;
  readonly server: S3Server;
  readonly faults: S3Faults;
}

/** A cluster of processes whose upstream `local` rests in a bucket, behind a proxy that fails on demand. */
async function bedOf(t: Test): Promise<Bed> {
  const server = await S3Server.start();
  t.teardown(async () => await server.remove());
  server.makeBucket('blobs');
  const faults = await S3Faults.start(server.url);
  t.teardown(async () => await faults.stop());
  Object.assign(process.env, S3_ENV);
  const dir = join(t.testdir(), 'data');
  mkdirSync(join(dir, 'overrides'), { recursive: true });
  const s3 = { bucket: 'blobs', prefix: PREFIX, endpoint: faults.url };
  const upstreams = [{ name: 'local', mode: 'none', backend: { s3 } }];
  writeFileSync(join(dir, 'cluster-document.yaml'), JSON.stringify({ version: 1, members: [], upstreams }));
  const cache = { budget: BUDGET, high: 0.5, low: 0.1 };
  const deadlines = { 'first-byte': '10s' };
  writeFileSync(join(dir, 'overrides/origin.yaml'), JSON.stringify({ cache, deadlines }));
  const size = ['--origins', '3', '--trackers', '1', '--proxies', '1', '--agents', '1', '--restart'];
  const up = await Up.start(dir, [...size, '--ports-from', '31500']);
  t.teardown(async () => await up.stop());
  return { up, server, faults };
}

async function push({ up }: Bed, tag: string, image: PushedImage): Promise<void> {
  await pushUntilTaken(() => up.cluster.proxies[0]!.url, REPOSITORY, tag, image);
}

/** Sum over all origins; NaN while one does not tell it. */
async function owed({ up }: Bed): Promise<number> {
  let sum = 0;
  for (const { name } of up.cluster.origins) {
    const text = await (await fetch(`${up.member(name).adminUrl}/metrics`)).text();
    const found = /^sepia_origin_backend_owed\{[^}]*\} (\d+)/m.exec(text)?.[1];
    sum += found === undefined ? Number.NaN : Number(found);
  }
  return sum;
}

const blobsOf = (image: PushedImage): string[] => [
  image.manifestDigest,
  image.config.digest,
  ...image.layers.map(({ digest }) => digest),
];

/** Origins that have a file of the blob. */
function holders({ up }: Bed, digest: string): string[] {
  const hex = digest.slice('sha256:'.length);
  return up.cluster.origins
    .map(({ name }) => name)
    .filter((name) => existsSync(join(up.dir, 'members', name, 'v1/blobs/sha256', hex.slice(0, 2), hex)));
}

function objectOf({ server }: Bed, digest: string): Buffer | undefined {
  const hex = digest.slice('sha256:'.length);
  const file = join(server.files, 'blobs', PREFIX, 'blobs/sha256', hex.slice(0, 2), hex);
  return existsSync(file) ? readFileSync(file) : undefined;
}

const uploadOf = (path: string): string | null => new URL(path, 'http://store').searchParams.get('uploadId');

/** Parts that the store took: number and upload. */
function sentParts({ faults }: Bed): string[] {
  return faults.seen.flatMap(({ method, path, status }) => {
    const { searchParams } = new URL(path, 'http://store');
    const number = searchParams.get('partNumber');
    return method === 'PUT' && status === 200 && number !== null ? [`${number} ${uploadOf(path)}`] : [];
  });
}

/** `sepia gc` without a grace, as an operator runs it; undefined where it is refused. */
async function collect({ up }: Bed): Promise<GcReport | undefined> {
  const args = ['gc', '--json', '--grace', '0s', '--cluster', join(up.dir, 'cluster.json')];
  return await new Promise((settle) => {
    execFile(SEPIA, args, (_error, stdout) => {
      settle(stdout === '' ? undefined : (JSON.parse(stdout) as GcReport));
    });
  });
}

t.test('mode none on an S3 store', { skip: noS3() }, async (t) => {
  const bed = await bedOf(t);
  const { up, faults } = bed;
  const agent = up.cluster.agents[0]!;

  await t.test('pushed, written, evicted at every origin, pulled again: equal', async (t) => {
    const images = [0, 1, 2].map((at) => randomImage([20 * MIB + at, 9 * MIB + at, 3_000 + at]));
    for (const [at, image] of images.entries()) await push(bed, `v${at}`, image);
    await until(async () => (await owed(bed)) === 0, 'all is written', LONG_MS);
    for (const digest of images.flatMap(blobsOf)) {
      const object = objectOf(bed, digest);
      t.equal(object && digestOf(object), digest, 'it is in the bucket');
    }
    const layers = images.flatMap((image) => image.layers.map(({ digest }) => digest));
    const isGone = (): boolean => layers.some((digest) => holders(bed, digest).length === 0);
    await until(isGone, 'some layer is at no origin any more', LONG_MS);
    for (const at of images.keys())
      t.ok(
        (await pullUntilGiven(agent.url, REPOSITORY, `v${at}`)) > 29 * MIB,
        'an agent pulls it, digests checked',
      );
    const [digest] = layers;
    const url = `${up.cluster.proxies[0]!.url}/v2/${REPOSITORY}/blobs/${digest}`;
    t.ok((await callUntilAnswered('GET', url)).bytes.equals(images[0]!.layers[0]!.bytes));
  });

  await t.test(
    'kill -9 in the middle of an upload: the rest is finished, nothing half is read',
    async (t) => {
      const image = randomImage([45 * MIB]);
      const [layer] = image.layers;
      let silent = 0;
      const isPart = (path: string): boolean => path.includes('partNumber=');
      faults.fault = ({ method, path }) => {
        if (method !== 'PUT' || !isPart(path) || /partNumber=[12]\b/.test(path)) return undefined;
        silent += 1;
        return { type: 'silence', after: false };
      };
      await push(bed, 'killed', image);
      await until(() => silent > 0, 'parts are on their way', LONG_MS);
      await until(
        () => [1, 2].every((number) => sentParts(bed).some((part) => part.startsWith(`${number} `))),
        'others are there',
        LONG_MS,
      );
      const killed = up.cluster.origins.map((victim) => ({ victim, pid: up.member(victim.name).pid }));
      for (const { pid } of killed) process.kill(pid, 'SIGKILL');
      t.equal(objectOf(bed, layer!.digest), undefined, 'nobody sees a part of it');
      t.ok((await openUploads(bed.server, 'blobs')).length > 0, 'it stands there half');
      const before = new Set(sentParts(bed));
      const uploads = new Set(faults.seen.map(({ path }) => uploadOf(path)));
      faults.seen.length = 0;
      for (const { victim, pid } of killed) await up.back(victim, pid);
      faults.fault = () => undefined;
      await until(async () => (await owed(bed)) === 0, 'it is written after the restart', LONG_MS);
      const object = objectOf(bed, layer!.digest);
      t.equal(object && digestOf(object), layer!.digest);
      const again = sentParts(bed).filter((part) => before.has(part));
      t.same(again, [], 'parts that were there are not sent again');
      t.ok(
        faults.seen.some(({ path, status }) => isPart(path) && status === 200 && uploads.has(uploadOf(path))),
        'the upload that stood there is gone on with',
      );
      // The store takes away what another origin began beside it when that one learns of the end.
      const areEnded = async (): Promise<boolean> => (await openUploads(bed.server, 'blobs')).length === 0;
      await until(areEnded, 'no upload is left', LONG_MS);
      t.ok((await pullUntilGiven(agent.url, REPOSITORY, 'killed')) > 45 * MIB);
    },
  );

  await t.test(
    'a store that is away holds up nobody, is told of, and gets it all when it is back',
    async (t) => {
      faults.fault = () => ({ type: 'answer', status: 503, code: 'SlowDown' });
      const image = randomImage([2 * MIB]);
      await push(bed, 'away', image);
      await until(async () => (await owed(bed)) > 0, 'it is owed', LONG_MS);
      const { adminUrl } = up.cluster.origins[0]!;
      const told = async (): Promise<boolean> =>
        /backend: \d+ pushed blobs .* wait/.test(await (await fetch(`${adminUrl}/readyz`)).text());
      await until(told, '/readyz says so', LONG_MS);
      t.ok((await pullUntilGiven(agent.url, REPOSITORY, 'away')) > 2 * MIB);
      faults.fault = () => undefined;
      await until(async () => (await owed(bed)) === 0, 'it is written', LONG_MS);
      for (const digest of blobsOf(image)) t.not(objectOf(bed, digest), undefined);
    },
  );

  await t.test(
    'what no tag leads to is collected from the bucket too, and may be pushed again',
    async (t) => {
      const proxy = up.cluster.proxies[0]!.url;
      const [image, stays] = [randomImage([12 * MIB, 2_000]), randomImage([3_000])];
      await push(bed, 'dead', image);
      await push(bed, 'alive', stays);
      await until(async () => (await owed(bed)) === 0, 'it is written', LONG_MS);
      await deleteManifest(proxy, REPOSITORY, image.manifestDigest);
      const silent = new Set<string>();
      faults.fault = ({ method, path: key }) => {
        if (method !== 'DELETE' || silent.size > 0) return undefined;
        silent.add(key);
        return { type: 'silence', after: true };
      };
      const met = async (): Promise<GcReport | undefined> => {
        const report = await collect(bed);
        return silent.size === 0 ? undefined : report;
      };
      const cut = await until(met, 'a collection comes to the bucket', LONG_MS);
      t.match(cut, { phase: 'done', backends: [{ left: /s3:/ }] }, 'a delete without an answer ends it');
      faults.fault = () => undefined;
      // The fences of the one that is unclear lift themselves.
      const whole = async (): Promise<boolean> => {
        const report = await collect(bed);
        return report?.phase === 'done' && report.backends.every(({ left }) => left === undefined);
      };
      await until(whole, 'the next one takes what is left', LONG_MS);
      for (const digest of blobsOf(image)) {
        t.equal(objectOf(bed, digest), undefined, 'it is not in the bucket');
        t.same(holders(bed, digest), [], 'nor at an origin');
      }
      for (const digest of blobsOf(stays)) t.not(objectOf(bed, digest), undefined, 'what is tagged is');
      await push(bed, 'again', image);
      await until(async () => (await owed(bed)) === 0, 'it is written again', LONG_MS);
      for (const digest of blobsOf(image)) t.not(objectOf(bed, digest), undefined);
      for (const tag of ['again', 'alive', 'v0'])
        t.ok((await pullUntilGiven(agent.url, REPOSITORY, tag)) > 3_000, `${tag} is pulled`);
    },
  );
});
