import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Digest, digestHex, digestOf } from '@sepia/base/digest';
import t from 'tap';
import {
  backlogs,
  bytesOf,
  copies,
  fileIn,
  MIB,
  pull,
  push,
  pushImage,
  REPOSITORY,
  setUp,
  until,
  written,
} from './bed.ts';

t.test('what was pushed is written to the backend, may leave the origins, and comes back', async (t) => {
  const { c, place } = await setUp(t, { budget: '6MiB' });
  const blobs: Buffer[] = [];
  for (let n = 0; n < 5; n++) blobs.push(bytesOf(MIB + n, n + 1));
  const digests: Digest[] = [];
  for (const bytes of blobs) digests.push(await push(c, bytes));
  const manifest = await pushImage(
    c,
    digests.map((digest, index) => ({ digest, size: blobs[index]!.length })),
  );
  await until(written(c), 'all is written');
  for (const digest of [...digests, manifest])
    t.ok(readdirSync(join(fileIn(place, digest), '..')).length > 0);
  await until(() => digests.some((one) => copies(c, one).length === 0), 'some are at no origin any more');
  const gone = digests.filter((one) => copies(c, one).length === 0);
  for (const digest of gone) {
    const part = await pull(c, c.ids[1]!, digest, 'bytes=900000-900999');
    t.equal(part.status, 206);
    t.ok(part.bytes.equals(blobs[digests.indexOf(digest)]!.subarray(900_000, 901_000)), 'a part');
  }
  for (const [index, digest] of digests.entries()) {
    const { status, bytes } = await pull(c, c.ids[index % 3]!, digest);
    t.equal(status, 200);
    t.ok(bytes.equals(blobs[index]!), `blob ${index}`);
  }
  // The manifest, as if it were the oldest of all.
  for (const id of c.ids) await c.stop(id);
  for (const id of copies(c, manifest)) {
    const hex = digestHex(manifest);
    for (const kind of ['blobs', 'meta'])
      rmSync(join(c.dataOf(id), 'v1', kind, 'sha256', hex.slice(0, 2), hex));
  }
  for (const id of c.ids) await c.start(id);
  await until(async () => {
    const path = `/v1/manifests?upstream=local&repository=${REPOSITORY}&reference=v1`;
    const answer = await c.get(c.ids[2]!, path);
    return answer.status === 200 && digestOf(answer.bytes) === manifest;
  }, 'the manifest comes back');
});

t.test('what rotted in the backend is written over by the next push of it', async (t) => {
  const { c, place } = await setUp(t);
  const bytes = bytesOf(MIB, 1);
  const digest = await push(c, bytes);
  await until(written(c), 'it is written');
  const file = fileIn(place, digest);
  const rotten = Buffer.from(bytes);
  rotten[MIB - 1]! ^= 1;
  writeFileSync(file, rotten);
  await push(c, bytes);
  await until(() => readFileSync(file).equals(bytes), 'it is right again');
  await until(written(c), 'and nothing is owed');
});

t.test('a backend that is away delays nothing and loses nothing', async (t) => {
  const { c, place } = await setUp(t, { budget: '4MiB' });
  const first = await push(c, bytesOf(1_000, 1));
  await until(written(c), 'the backend was seen');
  renameSync(place, `${place}.away`);
  mkdirSync(place);
  const blobs = [bytesOf(3 * MIB, 2), bytesOf(3 * MIB, 3)];
  const digests: Digest[] = [];
  for (const bytes of blobs) digests.push(await push(c, bytes));
  await until(async () => (await backlogs(c)).some(({ problem }) => problem !== undefined), 'it is told');
  // A push waits for two of three owners only.
  const owesBoth = async (): Promise<boolean> =>
    (await backlogs(c)).every(({ blobs, bytes }) => blobs === 2 && bytes === 6 * MIB);
  await until(owesBoth, 'all owners owe both');
  t.match((await backlogs(c))[0]?.problem ?? '', /is it mounted/);
  t.same(readdirSync(place), [], 'nothing is written beside it');
  for (const digest of digests) t.equal(copies(c, digest).length, 3, 'what is not there is not evicted');
  for (const id of c.ids) await c.stop(id);
  for (const id of c.ids) await c.start(id);
  await until(async () => (await backlogs(c)).every(({ blobs }) => blobs === 2), 'a restart forgets nothing');
  await Promise.all([...c.origins.values()].map(async (origin) => await origin.whenSettled()));
  for (const [at, digest] of digests.entries()) {
    const { status, bytes } = await pull(c, c.ids[0]!, digest);
    t.ok(bytes.equals(blobs[at]!), `and it is served (${status} ${bytes.subarray(0, 200)})`);
  }
  rmSync(place, { recursive: true });
  renameSync(`${place}.away`, place);
  await until(written(c), 'it is written when the backend is back');
  for (const digest of [first, ...digests]) t.ok((await pull(c, c.ids[1]!, digest)).status === 200);
});
