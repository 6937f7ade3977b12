import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { Containerd24 } from '@sepia/test-support/clients/containerd24';
import { call, pushBlobInTwo } from '@sepia/test-support/clients/registry-calls';
import { must } from '@sepia/test-support/testbed';
import t from 'tap';
import { writeTar } from '../../shared/lazy/test/support/tar-writer.ts';
import { digestOf, HOST, IMAGE, LazyCluster } from '../processes/clients/support/lazy-cluster.ts';
import { whyNoLazyNode } from '../processes/clients/support/lazy-node.ts';
import { walked } from '../processes/clients/support/tree-walk.ts';

/** Built as docs/adr/0066-nydus.md says; nothing else has it. */
const NYDUS_IMAGE = process.env['NYDUS_IMAGE'] ?? '/usr/bin/nydus-image';
const NAME = `${HOST}/t/nydus-image:1`;
const MARK = 'containerd.io/snapshot/nydus-';
const OPTIONS = ['--blob-inline-meta', '--features', 'blob-toc', '--whiteout-spec', 'none'];

/** The cluster's image as nydus-snapshotter's converter has nydus-image make it. */
async function pushConverted(cluster: LazyCluster): Promise<void> {
  const source = await cluster.manifest('t/python', 'oci');
  const dir = join(cluster.dir, 'nydus-image');
  mkdirSync(dir);
  const blobs: Buffer[] = [];
  for (const { digest } of source.layers) {
    const tar = join(dir, 'layer.tar');
    writeFileSync(tar, gunzipSync(await cluster.blob('t/python', digest)));
    // nydus-image writes behind what a file has.
    const blob = join(dir, `blob-${blobs.length}`);
    await must(NYDUS_IMAGE, ['create', '-t', 'tar-rafs', ...OPTIONS, '--blob', blob, tar]);
    blobs.push(readFileSync(blob));
    writeFileSync(join(dir, digestOf(blobs.at(-1)!).slice('sha256:'.length)), blobs.at(-1)!);
  }
  const names = blobs.map((blob) => join(dir, digestOf(blob).slice('sha256:'.length)));
  await must(NYDUS_IMAGE, ['merge', '--bootstrap', join(dir, 'boot'), '--blob-dir', dir, ...names]);
  const tar = writeTar([{ name: 'image/image.boot', payload: readFileSync(join(dir, 'boot')) }]);
  const layers = [...blobs, gzipSync(tar)];
  const text = (await cluster.blob('t/python', source.config.digest)).toString('utf8');
  const diffIds = [...blobs, tar].map(digestOf);
  const config = Buffer.from(
    JSON.stringify({ ...JSON.parse(text), rootfs: { type: 'layers', diff_ids: diffIds } }),
  );
  for (const bytes of [config, ...layers]) await pushBlobInTwo(cluster.registry, 't/nydus-image', bytes);
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const body = Buffer.from(
    JSON.stringify({
      ...source,
      config: { ...source.config, digest: digestOf(config), size: config.length },
      layers: layers.map((bytes, at) => ({
        ...{ digest: digestOf(bytes), size: bytes.length },
        ...(at < blobs.length
          ? {
              mediaType: 'application/vnd.oci.image.layer.nydus.blob.v1',
              annotations: { [`${MARK}blob`]: 'true' },
            }
          : {
              mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
              annotations: { [`${MARK}bootstrap`]: 'true', [`${MARK}fs-version`]: '6' },
            }),
      })),
    }),
  );
  const url = `${cluster.registry}/v2/t/nydus-image/manifests/1`;
  const { status } = await call('PUT', url, { body, headers: { 'content-type': mediaType } });
  if (status !== 201) throw new Error(`push of a manifest: ${status}`);
}

t.test(
  'stock containerd runs an image that nydus-image made, and sees the tree of its source',
  {
    skip:
      whyNoLazyNode() ??
      (existsSync(NYDUS_IMAGE) ? false : 'needs nydus-image: docs/adr/0066-nydus.md says how; NYDUS_IMAGE=…'),
    timeout: 900_000,
  },
  async (t) => {
    const cluster = await LazyCluster.start(t, () => 'fill: none\n');
    const containerd = await Containerd24.start(join(cluster.dir, 'c'), {
      contentCache: join(cluster.dir, 'up/members/snapshotter-1/content'),
      mirrors: { [HOST]: cluster.agent },
    });
    t.teardown(() => containerd.stop());
    await pushConverted(cluster);
    const text = await cluster.sepia(
      'lazy',
      'index',
      NAME,
      '--cluster',
      join(cluster.dir, 'up/cluster.json'),
    );
    t.match(text, /lazy: index .*bootstrap of a Nydus image\n/);
    const { code, stderr: why } = await containerd.tryPull(NAME);
    t.equal(code, 0, `${why}${await cluster.status(NAME)}`);
    t.match(await cluster.status(NAME), / {2}lazy\n/);
    await cluster.index(IMAGE);
    await containerd.pull(IMAGE);
    const walk = async (image: string, name: string) => await walked(containerd, image, name, false);
    const [made, source] = [await walk(NAME, 'walk-nydus'), await walk(IMAGE, 'walk-source')];
    t.ok(source.length > 5_000, `${source.length} paths`);
    t.strictSame(made, source);
  },
);
