import { randomBytes } from 'node:crypto';
import { open, readFile } from 'node:fs/promises';
import { type Digest, digestHex, digestOf } from '@sepia/base/digest';
import { delay } from '@sepia/base/lifecycle';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { startCluster, type TestCluster } from '../support/cluster.ts';
import { rot } from '../support/images.ts';
import { startPullThrough } from '../support/pull-through.ts';

const LOCAL = 'upstream=local&repository=team/app';
const MIB = 1024 * 1024;

/** A pushed blob with a copy at every origin. */
async function pushed(t: Test, bytes: Buffer): Promise<{ c: TestCluster; digest: Digest }> {
  const c = await startCluster(t, { origins: 3, config: "deadlines: {body-stall: '2s'}" });
  const digest = digestOf(bytes);
  const put = await c.put('o1', `/v1/blobs/${digest}?${LOCAL}`, bytes);
  t.equal(put.status, 201);
  for (const id of ['o1', 'o2', 'o3']) {
    await until(async () => {
      const answer = await c.get(id, `/v1/blobs/${digest}/where?${LOCAL}`);
      return (JSON.parse(answer.bytes.toString()) as { state: string }).state === 'final';
    }, `${id} has its copy`);
  }
  return { c, digest };
}

t.test('a blob that rots is mended while it is read, at every read, and stays where it is', async (t) => {
  const blob = randomBytes(3 * MIB + 5);
  const { c, digest } = await pushed(t, blob);
  const path = `/v1/blobs/${digest}?${LOCAL}`;
  const get = async (headers: Record<string, string> = {}) => await c.get('o2', path, headers);
  t.ok((await get()).bytes.equals(blob), 'a read before');
  await rot(c, 'o2', digest, MIB + 100, 2 * MIB + 70_000);
  t.ok((await get()).bytes.equals(blob), 'the read that finds it');
  t.ok((await readFile(c.fileOf('o2', digest))).equals(blob), 'mended on disk');
  await rot(c, 'o2', digest, MIB + 200_000);
  const part = await get({ range: `bytes=${MIB + 199_990}-${MIB + 200_010}` });
  t.ok(part.bytes.equals(blob.subarray(MIB + 199_990, MIB + 200_011)), 'a range that touches it');
  await rot(c, 'o2', digest, 3 * MIB);
  t.equal((await get({ range: 'bytes=0-9' })).status, 206, 'a range that does not');
  t.match(await c.admin('o2', '/metrics'), /sepia_origin_pieces_rotten_total\{[^}]*\} 3\n/);
  t.match(await c.admin('o2', '/metrics'), /sepia_origin_pieces_mended_total\{[^}]*\} 3\n/);
});

t.test('what nobody can mend is never completed, and not lost either', async (t) => {
  const blob = randomBytes(2 * MIB);
  const { c, digest } = await pushed(t, blob);
  for (const id of ['o1', 'o2', 'o3']) await rot(c, id, digest, MIB + 100);
  const path = `/v1/blobs/${digest}?${LOCAL}`;
  const answer = c.get('o2', path).catch((error: unknown) => error as Error);
  t.ok((await answer) instanceof Error, 'cut before the bad piece');
  const good = await c.get('o2', path, { range: `bytes=0-${MIB - 1}` });
  t.ok(good.bytes.equals(blob.subarray(0, MIB)), 'the rest is still served');
  const file = await open(c.fileOf('o1', digest), 'r+');
  await file.write(blob);
  await file.close();
  await until(async () => {
    const again = await c.get('o2', path).catch(() => undefined);
    return again?.bytes.equals(blob) === true;
  }, 'mended once there is a right copy');
});

t.test('a piece that nobody has is looked for once, and not by each read', async (t) => {
  const blob = randomBytes(2 * MIB);
  const { c, digest } = await pushed(t, blob);
  for (const id of ['o1', 'o2', 'o3']) await rot(c, id, digest, MIB + 100);
  const path = `/v1/blobs/${digest}?${LOCAL}`;
  const headers = { range: `bytes=${MIB}-${2 * MIB - 1}` };
  const searches = async (): Promise<number> =>
    Number(/^sepia_origin_pieces_rotten_total\{[^}]*\} (\d+)$/m.exec(await c.admin('o2', '/metrics'))?.[1]);
  const read = async (): Promise<void> => {
    const answer = await c.get('o2', path, headers);
    t.equal(answer.status, 503);
    t.equal(answer.headers['sepia-error'], 'NO_PEERS');
  };
  await read();
  const before = await searches();
  for (let reads = 0; reads < 20; reads++) await read();
  const more = (await searches()) - before;
  t.ok(more < 10, `20 reads are answered from what the first has found; ${more} looked again`);
});

t.test('origins whose copies are all damaged do not set each other looking for ever', async (t) => {
  const blob = randomBytes(4 * MIB);
  const { c, digest } = await pushed(t, blob);
  const ids = ['o1', 'o2', 'o3'];
  const pieces = [0, 1, 2, 3];
  for (const id of ids) await rot(c, id, digest, ...pieces.map((piece) => piece * MIB + 500_000));
  const path = `/v1/blobs/${digest}?${LOCAL}`;
  const read = async (id: string, piece: number): Promise<void> => {
    const range = `bytes=${piece * MIB}-${(piece + 1) * MIB - 1}`;
    const answer = await c.get(id, path, { range }).catch(() => undefined);
    t.not(answer?.bytes.length, MIB, `${id} gives no whole piece ${piece}`);
  };
  await Promise.all(ids.flatMap((id) => pieces.map(async (piece) => await read(id, piece))));
  const found = async (): Promise<string[]> => {
    const all = await Promise.all(ids.map(async (id) => await c.admin(id, '/metrics')));
    return all.flatMap((text) => text.match(/^sepia_origin_pieces_rotten_total.*$/gm) ?? []);
  };
  let before = await found();
  await until(async () => {
    // Longer than damage is looked for.
    await delay(3_000);
    const now = await found();
    const isSame = String(now) === String(before);
    before = now;
    return isSame;
  }, 'nobody looks any more');
  const other = randomBytes(1000);
  const put = { method: 'PUT', path: `/v1/blobs/${digestOf(other)}?${LOCAL}`, body: other } as const;
  for (const id of ids) t.equal((await c.call(id, put)).status, 201, `${id} takes a push`);
});

t.test('a complaint makes the sender look at its copy', async (t) => {
  const blob = randomBytes(2 * MIB);
  const { c, digest } = await pushed(t, blob);
  await rot(c, 'o2', digest, 5);
  const path = `/v1/blobs/${digest}/complaints?piece=`;
  t.equal((await c.call('o2', { method: 'POST', path: `${path}1` })).status, 202, 'a piece that is right');
  t.equal((await c.call('o2', { method: 'POST', path: `${path}0` })).status, 202);
  await until(async () => (await readFile(c.fileOf('o2', digest))).equals(blob), 'mended');
  t.match(await c.admin('o2', '/metrics'), /sepia_origin_pieces_rotten_total\{[^}]*\} 1\n/);
  t.equal((await c.call('o2', { method: 'POST', path: `${path}99` })).status, 202, 'no such piece');
  t.equal((await c.call('o2', { method: 'POST', path: `${path}x` })).status, 400);
});

t.test('the only copy of a cached blob is mended from the upstream', async (t) => {
  const { upstream, c } = await startPullThrough(t, 1);
  const blob = randomBytes(2 * MIB + 7);
  const digest = digestOf(blob);
  upstream.addBlob(blob);
  const path = `/v1/blobs/${digest}?upstream=hub&repository=lib/x`;
  t.ok((await c.get('o1', path)).bytes.equals(blob));
  await rot(c, 'o1', digest, 17, 2 * MIB);
  t.ok((await c.get('o1', path)).bytes.equals(blob));
  t.ok((await readFile(c.fileOf('o1', digest))).equals(blob));
});

t.test('leaf hashes are told for pieces, also of an old copy that has none', async (t) => {
  const blob = randomBytes(2 * MIB + 7);
  const { c, digest } = await pushed(t, blob);
  const path = `/v1/blobs/${digest}/leaves?${LOCAL}&from=1&count=8`;
  const { bytes } = await c.get('o3', path);
  t.equal(bytes.length, 64 * 32 + 32);
  t.equal(bytes.subarray(0, 32).toString('hex'), digestHex(digestOf(blob.subarray(MIB, MIB + 16_384))));
  t.equal(bytes.subarray(-32).toString('hex'), digestHex(digestOf(blob.subarray(2 * MIB))));
  t.equal((await c.get('o3', path.replace('from=1', 'from=3'))).status, 416);
});

t.test('a start that cannot be is refused by key', async (t) => {
  const c = await startCluster(t, { origins: 1 });
  await t.rejects(c.start('o1'), { code: 'START_FAILED' }, 'the data folder is in use');
});
