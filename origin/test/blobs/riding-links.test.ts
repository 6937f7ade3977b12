import { randomBytes } from 'node:crypto';
import { type Digest, digestOf } from '@sepia/base/digest';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { startCluster, type TestCluster } from '../support/cluster.ts';

const LOCAL = 'upstream=local&repository=team/app';

/** The link as an origin's own records have it: its clock, undefined where there is none. */
async function clockAt(c: TestCluster, id: string, digest: Digest): Promise<number | undefined> {
  const key = encodeURIComponent(JSON.stringify([digest]));
  const answer = await c.get(id, `/v1/records/links?${LOCAL}&key=${key}`);
  return (JSON.parse(answer.bytes.toString()) as { record?: { atMs: number } }).record?.atMs;
}

t.test('an owner takes the link that comes with a copy, and says so', async (t) => {
  const c = await startCluster(t, { origins: 3 });
  const copy = async (blob: Buffer, link?: string) =>
    await c.put('o2', `/v1/blobs/${digestOf(blob)}?${LOCAL}&copy=1`, blob, {
      'sepia-class': 'pushed',
      ...(link === undefined ? {} : { 'sepia-links': link }),
    });
  const [plain, linked] = [randomBytes(500), randomBytes(500)];
  const asBefore = await copy(plain);
  t.same([asBefore.status, asBefore.bytes.length], [201, 0]);
  t.equal(await clockAt(c, 'o2', digestOf(plain)), undefined);

  const atMs = Date.now();
  const links = [{ digest: digestOf(linked), sizeBytes: 500 }];
  const taken = await copy(linked, JSON.stringify({ atMs, links }));
  t.same([taken.status, JSON.parse(taken.bytes.toString())], [201, { links: {} }]);
  t.type(taken.headers['sepia-standing'], 'string', 'it says what it counts by');
  t.equal(await clockAt(c, 'o2', digestOf(linked)), atMs);
  const older = await copy(linked, JSON.stringify({ atMs: atMs - 5, links }));
  t.same(JSON.parse(older.bytes.toString()), { links: { aheadMs: atMs } }, 'of what stands later it tells');

  const later = randomBytes(500);
  const said = [{ digest: digestOf(later), sizeBytes: 500, rack: 'r7' }];
  t.equal((await copy(later, JSON.stringify({ atMs, links: said, also: 1 }))).status, 201);
  const key = encodeURIComponent(JSON.stringify([digestOf(later)]));
  const own = await c.get('o2', `/v1/records/links?${LOCAL}&key=${key}`);
  const kept = { record: { value: { sizeBytes: 500, rack: 'r7' } } };
  t.match(JSON.parse(own.bytes.toString()), kept, 'what a later version says is kept');

  for (const bad of ['{', '{"atMs":1,"links":[]}', '{"atMs":1,"links":[{"digest":"x"}]}', '{"links":[]}']) {
    const other = randomBytes(100);
    t.equal((await copy(other, bad)).status, 400, bad);
    const where = await c.get('o2', `/v1/blobs/${digestOf(other)}/where?${LOCAL}`);
    t.match(JSON.parse(where.bytes.toString()), { state: 'none', linked: false }, 'nothing of it is kept');
  }
});

t.test('a small push links its blob at every owner under one clock', async (t) => {
  const c = await startCluster(t, { origins: 3 });
  for (const size of [0, 700, 64 * 1024, 64 * 1024 + 1]) {
    const blob = randomBytes(size);
    const digest = digestOf(blob);
    const begun = await c.call('o1', { method: 'POST', path: `/v1/uploads?${LOCAL}` });
    const { uploadId } = JSON.parse(begun.bytes.toString()) as { uploadId: string };
    const path = `/v1/uploads/${uploadId}?${LOCAL}&digest=${digest}`;
    t.equal((await c.put('o1', path, blob)).status, 201);
    const clocks = async () => await Promise.all(c.ids.map(async (id) => await clockAt(c, id, digest)));
    await until(async () => (await clocks()).every((atMs) => atMs !== undefined), 'all owners have it');
    t.equal(new Set(await clocks()).size, 1, `${size} bytes`);
  }
});

t.test('an owner that is down costs a small push nothing but its own copy', async (t) => {
  const c = await startCluster(t, { origins: 3 });
  await c.stop('o3');
  const blob = randomBytes(900);
  const put = await c.put('o1', `/v1/blobs/${digestOf(blob)}?${LOCAL}`, blob);
  t.equal(put.status, 201);
  t.not(await clockAt(c, 'o2', digestOf(blob)), undefined);
  await c.start('o3');
  await until(async () => (await clockAt(c, 'o3', digestOf(blob))) !== undefined, 'it catches up');
});
