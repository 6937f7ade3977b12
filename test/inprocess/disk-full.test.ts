import { randomBytes } from 'node:crypto';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestOf } from '@sepia/base/digest';
import {
  getChecked,
  pullUntilGiven,
  pushUntilTaken,
  randomImage,
} from '@sepia/test-support/clients/registry-client';
import { MIB, PATIENT, PullThrough } from '@sepia/test-support/cluster/pull-through';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { request } from 'undici';

const SMALL = 'origin-2';
/** What origins leave free, and what the small disk has beside that. */
const RESERVE_BYTES = 64 * MIB;
const USABLE_BYTES = 6 * MIB;
const BLOB_BYTES = 12 * MIB + 7;

async function filesBelow(dir: string): Promise<{ path: string; sizeBytes: number }[]> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const paths = entries.filter((one) => one.isFile()).map((one) => join(one.parentPath, one.name));
  const found = await Promise.all(
    paths.map(async (path) => ({ path, sizeBytes: (await stat(path).catch(() => undefined))?.size ?? 0 })),
  );
  return found;
}

/** One of three origins has a disk that a blob of these tests does not fit on. */
async function start(t: Test, more: object = {}): Promise<PullThrough> {
  return await PullThrough.start(t.testdir(), {
    ...PATIENT,
    ...more,
    originFreeBytes: async (id, dataDir) => {
      if (id !== SMALL) return 1024 ** 4;
      const used = (await filesBelow(join(dataDir, 'v1'))).reduce((sum, one) => sum + one.sizeBytes, 0);
      return RESERVE_BYTES + USABLE_BYTES - used;
    },
  });
}

/** Blobs, partials and uploads that the small disk holds, beyond small ones. */
async function largeFiles(here: PullThrough): Promise<string[]> {
  const found = await filesBelow(join(here.cluster.dataOf(SMALL), 'v1'));
  const large = found.filter((one) => one.sizeBytes > MIB && !one.path.includes('/db/'));
  return large.map((one) => one.path);
}

t.test('one of three origins has no room: blobs of an upstream are pulled at once', async (t) => {
  await using here = await start(t);
  for (let turn = 0; turn < 4; turn++) {
    const hinted = await here.hinted(BLOB_BYTES);
    const unknown = here.image(BLOB_BYTES);
    for (const layer of [hinted, unknown]) {
      const answer = await layer.get();
      t.equal(answer.status, 200);
      t.ok(answer.bytes.equals(layer.content));
    }
  }
  await until(async () => (await largeFiles(here)).length === 0, 'the small disk holds nothing of them');
});

t.test('a fetch that finds the disk full in the middle gives its room back', async (t) => {
  await using here = await start(t);
  // Ranges are fetched whatever the size of the blob: they fill the disk bit by bit.
  const layers = [];
  for (let turn = 0; turn < 6; turn++) layers.push(await here.hinted(BLOB_BYTES));
  for (const layer of layers) {
    const range = await layer.get({ range: `bytes=0-${5 * MIB - 1}` });
    t.equal(range.status, 206);
    t.ok(range.bytes.equals(layer.content.subarray(0, 5 * MIB)));
  }
  for (const layer of layers) t.ok((await layer.get()).bytes.equals(layer.content));
  await until(async () => (await largeFiles(here)).length === 0, 'the small disk holds nothing of them');
});

t.test('one of three origins has no room: pushes in every form succeed', async (t) => {
  await using here = await start(t, { upstreams: [{ name: 'local', mode: 'none' }], proxies: 2 });
  const { proxyUrls, agents } = here.cluster;
  let turn = 0;
  const next = (): string => proxyUrls[turn++ % 2]!;
  const begin = async (query = '', body?: Buffer): Promise<{ status: number; location: string }> => {
    const url = `${next()}/v2/team/app/blobs/uploads/${query}`;
    const answer = await request(url, { method: 'POST', ...(body === undefined ? {} : { body }) });
    await answer.body.dump();
    return { status: answer.statusCode, location: String(answer.headers['location']) };
  };
  const send = async (method: 'PATCH' | 'PUT', location: string, body: Buffer | AsyncIterable<Buffer>) => {
    const path = location.replace(/^https?:\/\/[^/]+/, '');
    const answer = await request(`${next()}${path}`, { method, body: body as Buffer });
    await answer.body.dump();
    return { status: answer.statusCode, location: String(answer.headers['location']) };
  };
  const closing = (location: string, digest: Digest): string =>
    `${location}${location.includes('?') ? '&' : '?'}digest=${digest}`;
  async function* streamed(blob: Buffer): AsyncGenerator<Buffer> {
    for (let at = 0; at < blob.length; at += MIB) yield blob.subarray(at, at + MIB);
  }
  const forms: Record<string, (blob: Buffer, digest: Digest) => Promise<number>> = {
    'one POST': async (blob, digest) => (await begin(`?digest=${digest}`, blob)).status,
    'POST and PUT': async (blob, digest) =>
      (await send('PUT', closing((await begin()).location, digest), blob)).status,
    'POST, PATCH and PUT': async (blob, digest) => {
      const { location } = await send('PATCH', (await begin()).location, blob);
      return (await send('PUT', closing(location, digest), Buffer.alloc(0))).status;
    },
    'POST, a PATCH of unknown length and PUT': async (blob, digest) => {
      const { location } = await send('PATCH', (await begin()).location, streamed(blob));
      return (await send('PUT', closing(location, digest), Buffer.alloc(0))).status;
    },
  };
  for (const [form, push] of Object.entries(forms))
    for (let round = 0; round < 4; round++) {
      const blob = randomBytes(BLOB_BYTES);
      const digest = digestOf(blob);
      t.equal(await push(blob, digest), 201, form);
      await getChecked(`${next()}/v2/team/app/blobs/${digest}`, digest);
    }
  const image = randomImage([BLOB_BYTES, 1000]);
  await pushUntilTaken(next, 'team/app', 'v1', image);
  await pullUntilGiven(agents[0]!.url, 'team/app', 'v1');
  await until(async () => (await largeFiles(here)).length === 0, 'the small disk holds nothing of them');
  const small = here.cluster.originUrls[1]!;
  const { disk } = await here.cluster.ask<{ disk: { freeBytes: number; full: boolean } }>(
    small,
    '/v1/status',
  );
  t.ok(disk.freeBytes <= RESERVE_BYTES + USABLE_BYTES);
});
