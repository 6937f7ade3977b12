import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Digest, digestHex, digestOf } from '@sepia/base/digest';
import { seeded } from '@sepia/test-support/seeded';
import { until as untilWithin } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { startCluster, type TestCluster } from '../support/cluster.ts';
import { TestUpstream } from '../support/upstream.ts';

const MIB = 1024 * 1024;
const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
const REPOSITORY = 'team/app';

const until: typeof untilWithin = async (look, what) => await untilWithin(look, what, 60_000);

interface Backlog {
  readonly blobs: number;
  readonly bytes: number;
  readonly problem?: string;
}

interface SetUp {
  readonly c: TestCluster;
  /** The folder of the backend. */
  readonly place: string;
}

async function setUp(t: Test, options: { origins?: number; budget?: string } = {}): Promise<SetUp> {
  // The test's own folder is the cluster's.
  const dir = mkdtempSync(join(tmpdir(), 'sepia-backend-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const place = join(dir, 'place');
  mkdirSync(place);
  const config = `cache:\n  budget: ${options.budget ?? '50GiB'}\n  high: 0.5\n  low: 0.2`;
  const upstreams = [{ name: 'local', mode: 'none', backend: { fs: { path: place } } }];
  const c = await startCluster(t, { origins: options.origins ?? 3, config, document: { upstreams } });
  return { c, place };
}

function bytesOf(length: number, seed: number): Buffer {
  const random = seeded(seed);
  const block = Buffer.from(Array.from({ length: 1_024 }, () => Math.floor(random() * 256)));
  return Buffer.alloc(length, block);
}

async function push(c: TestCluster, bytes: Buffer): Promise<Digest> {
  const digest = digestOf(bytes);
  const path = `/v1/blobs/${digest}?upstream=local&repository=${REPOSITORY}`;
  await until(async () => {
    const put = await c.call(c.ids[0]!, { method: 'PUT', path, body: bytes });
    // Members that are slow answer 503.
    if (put.status !== 201 && put.status !== 503) throw new Error(`blob: ${put.status} ${put.bytes}`);
    return put.status === 201;
  }, 'the blob is taken');
  return digest;
}

async function pushImage(
  c: TestCluster,
  layers: readonly { digest: Digest; size: number }[],
): Promise<Digest> {
  const [config, ...rest] = layers.map((one) => ({ mediaType: 'application/octet-stream', ...one }));
  const bytes = Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: rest }),
  );
  const put = await c.call(c.ids[0]!, {
    method: 'PUT',
    path: `/v1/manifests?upstream=local&repository=${REPOSITORY}&reference=v1`,
    body: bytes,
    headers: { 'content-type': OCI_MANIFEST },
  });
  if (put.status !== 201) throw new Error(`manifest: ${put.status} ${put.bytes}`);
  return digestOf(bytes);
}

async function pull(c: TestCluster, id: string, digest: Digest, range?: string) {
  let at = id;
  for (let hops = 0; hops < 4; hops++) {
    const answer = await c.call(at, {
      method: 'GET',
      path: `/v1/blobs/${digest}?upstream=local&repository=${REPOSITORY}`,
      headers: range === undefined ? {} : { range },
    });
    const next = answer.headers['sepia-origin'] ?? undefined;
    if (answer.status !== 307 || typeof next !== 'string') return answer;
    at = next;
  }
  throw new Error('sent around');
}

async function backlogs(c: TestCluster): Promise<Backlog[]> {
  return await Promise.all(
    [...c.origins.keys()].map(async (id) => {
      const { bytes } = await c.call(id, { method: 'GET', path: '/v1/status' });
      return (JSON.parse(bytes.toString()) as { backend: Backlog }).backend;
    }),
  );
}

const written = (c: TestCluster) => async (): Promise<boolean> =>
  (await backlogs(c)).every(({ blobs }) => blobs === 0);

/** Files of a blob at origins. */
function copies(c: TestCluster, digest: Digest): string[] {
  const hex = digestHex(digest);
  return c.ids.filter((id) => {
    const folder = join(c.dataOf(id), 'v1/blobs/sha256', hex.slice(0, 2));
    try {
      return readdirSync(folder).includes(hex);
    } catch (error) {
      if ((error as { code?: string }).code !== 'ENOENT') throw error;
      return false;
    }
  });
}

const fileIn = (place: string, digest: Digest): string =>
  join(place, 'blobs/sha256', digestHex(digest).slice(0, 2), digestHex(digest));

t.test('what was pushed is written to the backend, may leave the origins, and comes back', async (t) => {
  const { c, place } = await setUp(t, { budget: '16MiB' });
  const blobs: Buffer[] = [];
  for (let n = 0; n < 8; n++) blobs.push(bytesOf(2 * MIB + n, n + 1));
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
    const part = await pull(c, c.ids[1]!, digest, 'bytes=1000000-1000999');
    t.equal(part.status, 206);
    t.ok(part.bytes.equals(blobs[digests.indexOf(digest)]!.subarray(1_000_000, 1_001_000)), 'a part');
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
    const answer = await c.call(c.ids[2]!, { method: 'GET', path });
    return answer.status === 200 && digestOf(answer.bytes) === manifest;
  }, 'the manifest comes back');
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
  for (const { blobs, bytes } of await backlogs(c)) t.same([blobs, bytes], [2, 6 * MIB]);
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

t.test('"not there" of a backend says nothing while an origin that may have it is silent', async (t) => {
  const { c, place } = await setUp(t, { origins: 5 });
  await push(c, bytesOf(1_000, 1));
  await until(written(c), 'the backend was seen');
  // It can be read, and takes nothing.
  rmSync(join(place, 'writing'), { recursive: true });
  writeFileSync(join(place, 'writing'), '');
  const digest = await push(c, bytesOf(50_000, 2));
  const owners = c.cluster.origins(digest).order.slice(0, 3);
  await until(() => owners.every((id) => copies(c, digest).includes(id)), 'the owners have it');
  for (const id of owners) await c.stop(id);
  const [left] = c.ids.filter((id) => !owners.includes(id));
  const answer = await c.call(left!, {
    method: 'GET',
    path: `/v1/blobs/${digest}?upstream=local&repository=${REPOSITORY}`,
    headers: { 'sepia-hop': '1' },
  });
  t.not(answer.status, 404);
  t.equal(answer.status, 503, answer.bytes.toString());
});

t.test('pull-through: blobs come from the backend, and from the registry where it lacks one', async (t) => {
  const { c: writer, place } = await setUp(t, { origins: 1 });
  const kept = bytesOf(3 * MIB, 1);
  const broken = bytesOf(3 * MIB, 2);
  const lacking = bytesOf(3 * MIB, 3);
  for (const bytes of [kept, broken]) await push(writer, bytes);
  await until(written(writer), 'they are written');
  truncateSync(fileIn(place, digestOf(broken)), 1 * MIB);
  const upstream = await TestUpstream.start(t);
  for (const bytes of [kept, broken, lacking]) upstream.addBlob(bytes);
  const hub = { name: 'hub', mode: 'pull-through', url: upstream.url, backend: { fs: { path: place } } };
  await writer.stop(writer.ids[0]!);
  const c = await startCluster(t, { origins: 1, document: { upstreams: [hub] } });
  const get = async (bytes: Buffer): Promise<{ status: number; bytes: Buffer }> =>
    await c.call(c.ids[0]!, {
      method: 'GET',
      path: `/v1/blobs/${digestOf(bytes)}?upstream=hub&repository=library/app`,
    });
  const asked = (bytes: Buffer): number =>
    upstream.requests.filter((one) => one.startsWith('GET') && one.includes(digestOf(bytes))).length;
  const first = await get(kept);
  t.ok(first.status === 200 && first.bytes.equals(kept));
  t.equal(asked(kept), 0, 'the registry sent none of it');
  const second = await get(lacking);
  t.ok(second.status === 200 && second.bytes.equals(lacking), 'of the registry');
  t.ok(asked(lacking) > 0);
  const third = await get(broken);
  t.not(third.status, 200, 'what is not the blob is never served as it');
});
