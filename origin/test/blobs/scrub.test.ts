import { randomBytes } from 'node:crypto';
import { readFile, truncate, unlink, writeFile } from 'node:fs/promises';
import { type Digest, digestOf } from '@sepia/base/digest';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { request } from 'undici';
import { startCluster, type TestCluster } from '../support/cluster.ts';
import { rot } from '../support/images.ts';
import { startPullThrough } from '../support/pull-through.ts';

const LOCAL = 'upstream=local&repository=team/app';
const MIB = 1024 * 1024;
const CONFIG = "scrub: {rate: 1TiB, every: '1s'}\ndeadlines: {body-stall: '1s'}\ncompare-every: '1s'";

/** Blobs that all three origins have. */
async function pushed(c: TestCluster, ...blobs: Buffer[]): Promise<Digest[]> {
  const digests = blobs.map((blob) => digestOf(blob));
  for (const [index, digest] of digests.entries()) {
    t.equal((await c.put('o1', `/v1/blobs/${digest}?${LOCAL}`, blobs[index]!)).status, 201);
    for (const id of c.ids)
      await until(async () => (await onDisk(c.fileOf(id, digest)))?.equals(blobs[index]!), `copy at ${id}`);
  }
  return digests;
}

async function onDisk(file: string): Promise<Buffer | undefined> {
  return await readFile(file).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
    return undefined;
  });
}

t.test('what rots, is cut or is gone without a reader comes back from the other owners', async (t) => {
  const c = await startCluster(t, { origins: 3, config: CONFIG });
  const blobs = [randomBytes(3 * MIB + 5), randomBytes(100_000), randomBytes(MIB), randomBytes(777)];
  const digests = await pushed(c, ...blobs);
  await rot(c, 'o2', digests[0]!, 3 * MIB, 7);
  await rot(c, 'o2', digests[1]!, 50_000);
  await truncate(c.fileOf('o2', digests[2]!), MIB - 1);
  await unlink(c.fileOf('o2', digests[3]!));
  for (const [index, digest] of digests.entries())
    await until(async () => (await onDisk(c.fileOf('o2', digest)))?.equals(blobs[index]!), `blob ${index}`);
  t.match(await c.admin('o2', '/metrics'), /sepia_origin_pieces_mended_total\{[^}]*\} 3\n/);
  t.match(await c.admin('o2', '/metrics'), /sepia_origin_scrubbed_bytes_total\{[^}]*\} [1-9]/);
  t.match(await c.admin('o2', '/metrics'), /sepia_origin_pieces_damaged\{[^}]*\} 0\n/);
  t.notMatch(await c.admin('o2', '/readyz'), /damaged/);
});

t.test('where nobody has a right copy the damaged one stays, and is told until there is one', async (t) => {
  const c = await startCluster(t, { origins: 3, config: CONFIG });
  const blob = randomBytes(2 * MIB);
  const [digest] = (await pushed(c, blob)) as [Digest];
  for (const id of c.ids) await rot(c, id, digest, MIB + 100);
  for (const id of c.ids)
    await until(async () => (await c.admin(id, '/readyz')).includes('warning: damaged: '), `${id} says so`);
  t.match(await c.admin('o3', '/metrics'), /sepia_origin_pieces_damaged\{[^}]*\} 1\n/);
  const status = JSON.parse((await c.get('o3', '/v1/status')).bytes.toString());
  t.match(status.scrub, { damaged: { pieces: 1, digests: [digest] } });
  for (const id of c.ids) {
    const found = (await readFile(c.fileOf(id, digest))) as Buffer;
    t.ok(found.subarray(0, MIB).equals(blob.subarray(0, MIB)), 'it is where it was');
  }
  await writeFile(c.fileOf('o1', digest), blob);
  for (const id of c.ids)
    await until(async () => (await onDisk(c.fileOf(id, digest)))?.equals(blob), `mended at ${id}`);
  for (const id of c.ids)
    await until(async () => !(await c.admin(id, '/readyz')).includes('damaged'), `${id} is quiet again`);
});

t.test(
  'damage that a read found is told without a scrub, and mended when there is a right copy',
  async (t) => {
    const c = await startCluster(t, {
      origins: 3,
      config: "scrub: {rate: 0}\ndeadlines: {body-stall: '1s'}\ncompare-every: '1h'",
    });
    const blob = randomBytes(2 * MIB);
    const [digest] = (await pushed(c, blob)) as [Digest];
    for (const id of c.ids) await rot(c, id, digest, MIB + 100);
    const read = { method: 'GET', path: `/v1/blobs/${digest}?${LOCAL}` } as const;
    const damaged = async (): Promise<string | undefined> =>
      /sepia_origin_pieces_damaged\{[^}]*\} (\d+)\n/.exec(await c.admin('o1', '/metrics'))?.[1];
    t.equal(await damaged(), '0');
    await t.rejects(c.call('o1', read), 'the body is cut');
    await until(async () => (await c.admin('o1', '/readyz')).includes('warning: damaged: '), 'o1 says so');
    t.equal((await request(`${c.origins.get('o1')!.adminUrl}/readyz`)).statusCode, 200);
    t.equal(await damaged(), '1');
    await writeFile(c.fileOf('o2', digest), blob);
    // For a while a read is told that nobody has it.
    const isRight = (answer: { readonly bytes: Uint8Array }): boolean => blob.equals(answer.bytes);
    await until(async () => await c.call('o1', read).then(isRight, () => false), 'it is mended');
    await until(async () => (await damaged()) === '0', 'it counts no more');
    t.notMatch(await c.admin('o1', '/readyz'), /damaged/);
  },
);

t.test('a cached blob is mended from its upstream', async (t) => {
  const { upstream, c } = await startPullThrough(t, 1, {}, { config: CONFIG });
  const blob = randomBytes(2 * MIB + 7);
  const digest = digestOf(blob);
  upstream.addBlob(blob);
  const path = `/v1/blobs/${digest}?upstream=hub&repository=lib/x`;
  t.ok((await c.get('o1', path)).bytes.equals(blob));
  await until(async () => (await onDisk(c.fileOf('o1', digest)))?.equals(blob), 'stored');
  await rot(c, 'o1', digest, 2 * MIB);
  await until(async () => (await onDisk(c.fileOf('o1', digest)))?.equals(blob), 'mended');
});

t.test('a copy that rotted before it could be sent is mended and sent, and owed no more', async (t) => {
  const c = await startCluster(t, { origins: 3, config: "scrub: {rate: 0}\ncompare-every: '1h'" });
  const blobs = [randomBytes(MIB + 9), randomBytes(1_000)];
  await c.stop('o3');
  const digests: Digest[] = [];
  for (const body of blobs) {
    const digest = digestOf(body);
    digests.push(digest);
    const put = await c.put('o1', `/v1/blobs/${digest}?${LOCAL}`, body);
    t.equal(put.status, 201);
    await until(async () => (await onDisk(c.fileOf('o2', digest)))?.equals(body), 'copy at o2');
    await rot(c, 'o1', digest, 500);
  }
  await c.start('o3');
  for (const [index, digest] of digests.entries()) {
    await until(async () => (await onDisk(c.fileOf('o3', digest)))?.equals(blobs[index]!), 'copy at o3');
    await until(async () => (await onDisk(c.fileOf('o1', digest)))?.equals(blobs[index]!), 'mended at o1');
  }
  const owed = /sepia_origin_owed_copies\{[^}]*\} 0\n/;
  await until(async () => owed.test(await c.admin('o1', '/metrics')), 'nothing is owed');
});
