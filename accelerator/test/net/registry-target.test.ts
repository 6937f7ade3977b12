import { digestOf } from '@sepia/base/digest';
import { documentOf } from '@sepia/lazy/convert/documents';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
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
