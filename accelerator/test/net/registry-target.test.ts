import { Readable } from 'node:stream';
import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { documentOf } from '@sepia/lazy/convert/documents';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { TestTarget } from '@sepia/test-support/upstream/test-target';
import { openTargetClient } from '@sepia/upstream/client-setup';
import type { TargetClient } from '@sepia/upstream/target-client';
import t from 'tap';
import { Places, registryTarget } from '../../src/net/registry-target.ts';
import type { ResultRegistry } from '../../src/net/result-registries.ts';

t.test('a manifest is read for its subject only where it has to have one', async (t) => {
  const put: string[] = [];
  const client = {
    host: 'registry.example',
    putManifest: async (_repository: string, reference: string) => void put.push(reference),
  } as unknown as TargetClient;
  const registry: Omit<ResultRegistry, 'close'> = {
    use: async (work) => await work(client),
    places: new Places(),
    host: 'registry.example',
  };
  // A copied one may be of a kind that the registry takes and we do not read.
  const old = documentOf({ schemaVersion: 1 }, 'application/vnd.docker.distribution.manifest.v1+json');
  await registryTarget(registry, 'a').putManifest(old, undefined);
  t.same(put, [old.digest]);
  const subject = { mediaType: OCI_MANIFEST, digest: digestOf(Buffer.from('x')), size: 1 };
  const referrer = documentOf({ schemaVersion: 2, layers: [], subject }, OCI_MANIFEST);
  const beside = registryTarget(registry, 'a', { refersToSource: true });
  await t.rejects(beside.putManifest(referrer, undefined), { code: 'METHOD_UNSUPPORTED' });
});

t.test('what another repository should have is mounted, else uploaded; no session is left', async (t) => {
  const target = await TestTarget.start(t);
  const to = { url: target.url, insecure: false, 'redirect-hosts': [], 'realm-hosts': [] };
  const client = openTargetClient(
    { env: {}, log: silentLogger(), nowMs: Date.now, dateMs: Date.now },
    { name: 'results', to, caKey: 'ca', account: { name: 'results', config: undefined }, connections: 4 },
  );
  t.teardown(async () => await client.close());
  const registry: Omit<ResultRegistry, 'close'> = {
    use: async (work) => await work(client),
    places: new Places(),
    host: 'registry.example',
  };
  const bytes = Buffer.from('a layer');
  const digest = digestOf(bytes);
  const put = async (repository: string): Promise<void> => {
    const open = (): Readable => Readable.from([bytes], { objectMode: false });
    await registryTarget(registry, repository).putBlob({ digest, sizeBytes: bytes.length, open });
  };
  const count = (method: string): number =>
    target.requests.filter((one) => one.startsWith(method) && one.includes('/uploads/')).length;
  await put('team/one');
  await put('team/two');
  t.equal(target.mounts, 1);
  // It went meanwhile where it was known to be, or may not be read there.
  for (const refused of [undefined, { status: 403 }, { status: 404 }]) {
    target.blobs.clear();
    target.fault = (_method, _path, query) => (query.has('mount') ? refused : undefined);
    const [begun, ended] = [count('POST'), count('DELETE')];
    t.notOk(await registryTarget(registry, 'team/three').has(digest, bytes.length));
    const sessions = count('POST') - begun - (refused === undefined ? 0 : 1);
    t.equal(count('DELETE') - ended, sessions, 'what was begun is ended');
    await put('team/three');
    t.ok(target.blobs.get(`team/three@${digest}`)?.equals(bytes), JSON.stringify(refused));
    target.blobs.clear();
    registry.places.note(digest, 'team/two');
  }
});
