import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { type Digest, digestHex, digestOf } from '@sepia/base/digest';
import { systemCode } from '@sepia/base/errors';
import { decodeSidecar } from '@sepia/store/sidecar';
import { bytesOf } from '@sepia/test-support/seeded';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { startCluster, type TestCluster } from '../support/cluster.ts';

/** More than what is sent without asking whether it is there. */
const LARGE_BYTES = 600_000;

function upstreamsOf(c: TestCluster, id: string, digest: Digest): string[] {
  const hex = digestHex(digest);
  const file = join(c.dataOf(id), 'v1/meta/sha256', hex.slice(0, 2), hex);
  return decodeSidecar(readFileSync(file)).attrs.provenance.map(({ upstream }) => upstream);
}

t.test('every copy knows that a push to an upstream of mode write-back brought it too', async (t) => {
  const hub = { name: 'hub', mode: 'write-back', access: 'cluster', url: 'http://127.0.0.1:1' };
  const c = await startCluster(t, { origins: 3, upstreams: [hub] });
  const bytes = Buffer.from(bytesOf(LARGE_BYTES, 1));
  const digest = digestOf(bytes);
  const push = async (id: string, upstream: string): Promise<void> => {
    const path = `/v1/blobs/${digest}?upstream=${upstream}&repository=team/app`;
    const put = await c.put(id, path, bytes);
    t.equal(put.status, 201, put.bytes.toString());
  };
  await push('o1', 'local');
  const where = async (id: string): Promise<string> =>
    (await c.get(id, `/v1/blobs/${digest}/where?upstream=local&repository=team/app`)).bytes.toString();
  for (const id of c.ids) await until(async () => (await where(id)).includes('pushed'), `${id} has it`);
  await push('o1', 'hub');
  for (const id of c.ids)
    await until(() => upstreamsOf(c, id, digest).includes('hub'), `${id} knows what waits for the registry`);
  for (const id of c.ids) t.same(upstreamsOf(c, id, digest), ['local', 'hub']);
});

t.test('a lost copy comes back with all that brought it', async (t) => {
  const hubs = ['hub', 'other'].map((name) => ({
    ...{ name, mode: 'write-back', access: 'cluster', url: 'http://127.0.0.1:1' },
  }));
  const c = await startCluster(t, { origins: 3, upstreams: hubs });
  const bytes = Buffer.from(bytesOf(LARGE_BYTES, 2));
  const digest = digestOf(bytes);
  const all = ['local', 'hub', 'other'];
  for (const upstream of all) {
    const path = `/v1/blobs/${digest}?upstream=${upstream}&repository=team/app`;
    t.equal((await c.put('o1', path, bytes)).status, 201);
  }
  for (const id of c.ids)
    await until(() => all.every((one) => upstreamsOf(c, id, digest).includes(one)), `${id} has it`);
  await c.stop('o3');
  rmSync(c.dataOf('o3'), { recursive: true });
  await c.start('o3');
  await until(() => {
    try {
      return all.every((one) => upstreamsOf(c, 'o3', digest).includes(one));
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
      return false;
    }
  }, 'o3 has it again, and knows what waits');
});
