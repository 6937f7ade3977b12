import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { digestOf } from '@sepia/base/digest';
import t from 'tap';
import { type TarPart, writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';
import { indexImage } from '../../src/lazy/index-image.ts';
import { readIndexFile } from '../../src/lazy/layer-file.ts';
import { RegistryClient } from '../../src/registry/registry-client.ts';
import { FakeRegistry } from '../support/fake-registry.ts';

const TYPE = 'application/vnd.oci.image.manifest.v1+json';

/** A registry with one image of these layers; `lie` changes the diffIDs that its config names. */
async function imageOf(
  t: { teardown(done: () => unknown): void },
  layers: readonly TarPart[][],
  lie: (diffIds: string[]) => string[] = (diffIds) => diffIds,
  annotations: object = {},
): Promise<RegistryClient> {
  const { registry, url, dispatcher } = await FakeRegistry.started(t);
  const tars = layers.map((parts) => writeTar(parts));
  const blobs = tars.map((tar) => gzipSync(tar));
  const config = Buffer.from(JSON.stringify({ rootfs: { diff_ids: lie(tars.map((tar) => digestOf(tar))) } }));
  const descriptor = (bytes: Buffer): object => ({
    digest: registry.addBlob(bytes),
    size: bytes.length,
    mediaType: 'x/y',
    annotations,
  });
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: TYPE,
      config: descriptor(config),
      layers: blobs.map(descriptor),
    }),
  );
  registry.manifests.set('v1', { bytes: manifest, type: TYPE });
  registry.manifests.set(digestOf(manifest), { bytes: manifest, type: TYPE });
  return new RegistryClient({ dispatcher }, { url, hint: '' });
}

const IMAGE = { repository: 't/app', reference: 'v1' };
const options = (dir: string): Parameters<typeof indexImage>[2] => ({
  spanBytes: 1024 * 1024,
  dir,
  onLayer: () => undefined,
});

t.test('every layer of an image is indexed and bound to the diffID of its config', async (t) => {
  const dir = t.testdir();
  const client = await imageOf(t, [[{ name: 'etc/', typeFlag: '5', mode: 0o755 }], [{ name: 'etc/x' }]]);
  const files: string[] = [];
  await indexImage(client, IMAGE, { ...options(dir), onLayer: ({ file }) => void files.push(file) });
  t.equal(files.length, 2);
  t.equal((await readIndexFile(files[1]!)).entries[0]!.path, 'etc/x');
});

t.test(
  'a config that claims another diffID, a layer that cannot be lazy, layers that do not fit: nothing is written',
  async (t) => {
    const dir = t.testdir();
    const other = digestOf(Buffer.from('the layer of somebody else'));
    const lying = await imageOf(t, [[{ name: 'x' }]], () => [other]);
    await t.rejects(indexImage(lying, IMAGE, options(dir)), { code: 'DIGEST_MISMATCH' });
    const short = await imageOf(t, [[{ name: 'x' }]], () => []);
    await t.rejects(indexImage(short, IMAGE, options(dir)), { code: 'MANIFEST_SYNTAX' });
    const sparse = await imageOf(t, [[{ name: 'x' }], [{ name: 's', typeFlag: 'S' }]]);
    await t.rejects(indexImage(sparse, IMAGE, options(dir)), {
      code: 'LAYER_NOT_LAZY',
      message: /sparse-file: s/,
    });
    const tmp = await imageOf(t, [[{ name: 'tmp/', typeFlag: '5', mode: 0o1777 }], [{ name: 'tmp/x' }]]);
    await t.rejects(indexImage(tmp, IMAGE, options(dir)), {
      code: 'LAYER_NOT_LAZY',
      message: /implied-directory.*: tmp/,
    });
    const whiteout = await imageOf(t, [[{ name: 'x' }, { name: '.wh.y' }], [{ name: '.wh.x' }]]);
    await t.rejects(indexImage(whiteout, IMAGE, options(dir)), {
      code: 'LAYER_NOT_LAZY',
      message: /whiteout-in-lowest-layer: \.wh\.y/,
    });
    const mark = { 'containerd.io/snapshot/nydus-bootstrap': 'true' };
    const nydus = await imageOf(t, [[{ name: 'x' }]], undefined, mark);
    await t.rejects(indexImage(nydus, IMAGE, options(dir)), {
      code: 'LAYER_NOT_LAZY',
      message: /is a Nydus image, whose layers are indexed together, by an accelerator: leave out --out/,
    });
    t.same(readdirSync(join(dir)), []);
  },
);
