import { rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { digestOf } from '@sepia/base/digest';
import { H_UPSTREAM_AUTHORIZATION } from '@sepia/cluster/api/headers';
import t from 'tap';
import { startCluster } from '../support/cluster.ts';
import { TestUpstream } from '../support/upstream.ts';
import { bytesOf, copies, fileIn, MIB, push, REPOSITORY, setUp, until, written } from './bed.ts';

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
  const answer = await c.get(left!, `/v1/blobs/${digest}?upstream=local&repository=${REPOSITORY}`, {
    'sepia-hop': '1',
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
    await c.get(c.ids[0]!, `/v1/blobs/${digestOf(bytes)}?upstream=hub&repository=library/app`);
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

t.test(
  'pull-through: a manifest opens nothing of the backend that its repository does not have',
  async (t) => {
    const { c: writer, place } = await setUp(t, { origins: 1 });
    const secret = bytesOf(3 * MIB, 4);
    const digest = await push(writer, secret);
    await until(written(writer), 'it is written');
    await writer.stop(writer.ids[0]!);
    const upstream = await TestUpstream.start(t);
    upstream.addBlob(secret);
    upstream.fault = (req, res) => {
      if (req.url?.includes('/other/') !== true) return false;
      res.writeHead(404).end();
      return true;
    };
    const type = 'application/vnd.oci.image.manifest.v1+json';
    const layer = { mediaType: 'application/octet-stream', digest, size: secret.length };
    const manifest = { schemaVersion: 2, mediaType: type, config: layer, layers: [layer] };
    upstream.addManifest('other/app', 'v1', manifest, type);
    const hub = { name: 'hub', mode: 'pull-through', url: upstream.url, backend: { fs: { path: place } } };
    const c = await startCluster(t, { origins: 1, document: { upstreams: [hub] } });
    const get = async (path: string) => await c.get(c.ids[0]!, path);
    t.equal((await get('/v1/manifests?upstream=hub&repository=other/app&reference=v1')).status, 200);
    t.equal((await get(`/v1/blobs/${digest}?upstream=hub&repository=other/app`)).status, 404);
    const whole = await c.call(c.ids[0]!, {
      ...{ method: 'POST', path: `/v1/blobs/${digest}/fetch?upstream=hub&repository=other/app&wait=5000` },
    });
    t.equal(whole.status, 404);
    const asked = upstream.requests.length;
    const mine = await get(`/v1/blobs/${digest}?upstream=hub&repository=team/app`);
    t.ok(mine.status === 200 && mine.bytes.equals(secret));
    t.notOk(
      upstream.requests.slice(asked).some((line) => line.startsWith('GET')),
      "its bytes are the backend's",
    );
  },
);

t.test('pull-through: who brings a login is shown what the backend has in its repository', async (t) => {
  const { c: writer, place } = await setUp(t, { origins: 1 });
  const secret = bytesOf(3 * MIB, 5);
  const digest = await push(writer, secret);
  await until(written(writer), 'it is written');
  await writer.stop(writer.ids[0]!);
  const upstream = await TestUpstream.start(t);
  upstream.addBlob(secret);
  const login = 'Basic dGVhbTpwYXNzd29yZA==';
  upstream.fault = (req, res) => {
    if (req.headers.authorization === login) return false;
    res.writeHead(401, { 'www-authenticate': 'Basic realm="hub"' }).end();
    return true;
  };
  const type = 'application/vnd.oci.image.manifest.v1+json';
  const layer = { mediaType: 'application/octet-stream', digest, size: secret.length };
  upstream.addManifest(
    'team/app',
    'v1',
    { schemaVersion: 2, mediaType: type, config: layer, layers: [layer] },
    type,
  );
  const hub = { name: 'hub', mode: 'pull-through', url: upstream.url, backend: { fs: { path: place } } };
  const c = await startCluster(t, { origins: 1, document: { upstreams: [hub] } });
  const ask = async (method: 'GET' | 'POST', path: string, headers: Record<string, string> = {}) =>
    (await c.call(c.ids[0]!, { method, path: `${path}upstream=hub&repository=team/app`, headers })).status;
  const brought = { [H_UPSTREAM_AUTHORIZATION]: login };
  t.equal(await ask('GET', '/v1/manifests?reference=v1&', brought), 200);
  const whole = `/v1/blobs/${digest}/fetch?wait=5000&`;
  t.ok((await ask('POST', whole)) >= 400, 'not to who brings none');
  t.equal(await ask('POST', whole, brought), 200);
});
