import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Digest, digestHex, digestOf } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { type BlobAttrs, decodeSidecar } from '@sepia/store/sidecar';
import t from 'tap';
import { Hub, until } from '../support/hub.ts';

const LAYER_BYTES = 300_000;
/** Less than one layer fits: what is cached goes. */
const CONFIG = 'cache:\n  budget: 200KiB\n  high: 0.5\n  low: 0.2';

function kept(hub: Hub, digest: string): (BlobAttrs | undefined)[] {
  const hex = digestHex(digest as Digest);
  return hub.c.ids.map((id) => {
    const file = join(hub.c.dataOf(id), 'v1/meta/sha256', hex.slice(0, 2), hex);
    try {
      return decodeSidecar(readFileSync(file)).attrs;
    } catch (error) {
      // It may go at any moment.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      return undefined;
    }
  });
}

// Clusters of their own, which wait most of the time.
t.jobs = 2;

t.test('what came to the registry makes room, and is read through again; what waits stays', async (t) => {
  const hub = await Hub.start(t, {}, { config: CONFIG });
  const there = randomBytes(LAYER_BYTES);
  const gone = randomBytes(LAYER_BYTES);
  const image = await hub.image('team/app', 'v1', there);
  await hub.image('team/app', 'gone', gone);
  await hub.drained();
  hub.target.fault = (method) => (method === 'PUT' || method === 'POST' ? { status: 503 } : undefined);
  const waits = randomBytes(LAYER_BYTES);
  await hub.image('team/late', 'v2', waits);
  for (const one of [there, gone])
    await until(() => kept(hub, digestOf(one)).every((found) => found === undefined), 'it is evicted');
  hub.target.blobs.delete(`team/app@${digestOf(gone)}`);
  for (const id of hub.c.ids) {
    const path = `/v1/blobs/${digestOf(gone)}?upstream=hub&repository=team/app`;
    t.equal((await hub.c.call(id, { method: 'HEAD', path })).status, 404, 'taken away there, it is nowhere');
  }
  for (const id of hub.c.ids) {
    const path = `/v1/blobs/${digestOf(there)}?upstream=hub&repository=team/app`;
    const read = await hub.c.get(id, path);
    t.ok(read.status === 307 || read.bytes.equals(there), `${id} reads it through`);
  }
  t.match(await hub.tag('team/app', 'v1'), { status: 200, digest: image });
  t.ok(
    kept(hub, digestOf(waits)).every((one) => one?.class === 'pushed'),
    'what the registry has not got stays',
  );
  hub.target.fault = () => undefined;
  await hub.drained();
  t.ok(hub.target.blobs.has(`team/late@${digestOf(waits)}`));
});

t.test(
  'a mount keeps what is cached by now until its own registry has it; nothing to keep: no mount',
  async (t) => {
    const hub = await Hub.start(t);
    const bytes = randomBytes(LAYER_BYTES);
    const digest = digestOf(bytes);
    await hub.image('team/base', 'v1', bytes);
    await hub.drained();
    const classes = (): (string | undefined)[] => kept(hub, digest).map((one) => one?.class);
    await until(() => classes().every((one) => one === 'cached'), 'it came there');
    hub.target.fault = (method) => (method === 'PUT' || method === 'POST' ? { status: 503 } : undefined);
    const mount = `/v1/mounts?upstream=hub&repository=team/app&from=team/base&digest=${digest}`;
    t.equal((await hub.call('POST', mount)).status, 201);
    await until(() => classes().every((one) => one === 'pushed'), 'it is a pushed one again');
    const other = digestOf(Buffer.from('other'));
    t.equal((await hub.call('POST', mount.replace(digest, other))).status, 404);
  },
);

t.test('what a push that waits needs stays, whatever the registry had of it before', async (t) => {
  const hub = await Hub.start(t, {}, { config: CONFIG });
  const bytes = randomBytes(LAYER_BYTES);
  const digest = digestOf(bytes);
  const layer = await hub.blob('team/app', bytes);
  const image = (name: string): object => ({
    ...{ schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [layer] },
    annotations: { name },
  });
  hub.target.fault = (method, path) =>
    method === 'PUT' && path.includes('/manifests/v2') ? { status: 503 } : undefined;
  await hub.manifest('team/app', 'v1', image('v1'));
  await hub.drained();
  const second = await hub.manifest('team/app', 'v2', image('v2'));
  const held = (): boolean => kept(hub, digest).filter((one) => one?.class === 'pushed').length >= 2;
  t.ok(held() || hub.target.blobs.has(`team/app@${digest}`), 'kept, or at the registry at that moment');
  if (!held()) await hub.blob('team/app', bytes);
  const other = randomBytes(LAYER_BYTES);
  await hub.image('team/other', 'v1', other);
  await until(() => kept(hub, digestOf(other)).every((one) => one?.class !== 'pushed'), 'rounds went on');
  t.ok(held(), 'the registry says that it has it, and it stays');
  // The registry collects what v1 brought, before v2 got there.
  hub.target.blobs.delete(`team/app@${digest}`);
  hub.target.fault = () => undefined;
  await hub.drained();
  t.ok(hub.target.blobs.has(`team/app@${digest}`), 'it is brought there again');
  t.equal(hub.target.manifests.get('team/app:v2'), second);
});

t.test('a manifest that needs what is nowhere any more is refused', async (t) => {
  const hub = await Hub.start(t, {}, { config: CONFIG });
  const bytes = randomBytes(LAYER_BYTES);
  const layer = await hub.blob('team/app', bytes);
  const body = { schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [layer] };
  await hub.manifest('team/app', 'v1', body);
  await hub.drained();
  await until(() => kept(hub, digestOf(bytes)).every((one) => one === undefined), 'it is evicted');
  hub.target.blobs.delete(`team/app@${digestOf(bytes)}`);
  const again = hub.manifest('team/app', 'v2', { ...body, annotations: { name: 'v2' } });
  await t.rejects(again, { message: /MANIFEST_BLOB_UNKNOWN|neither here nor at the registry/ });
  await hub.blob('team/app', bytes);
  await hub.manifest('team/app', 'v2', { ...body, annotations: { name: 'v2' } });
  await hub.drained();
  t.ok(hub.target.blobs.has(`team/app@${digestOf(bytes)}`));
});
