import { join } from 'node:path';
import { Containerd16 } from '@sepia/test-support/clients/containerd16';
import { Containerd24 } from '@sepia/test-support/clients/containerd24';
import { PYTHON_APP, runHeard } from '@sepia/test-support/clients/heard';
import { pushBlobInTwo } from '@sepia/test-support/clients/registry-calls';
import { must, whyNoClients } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { digestOf, HOST, IMAGE, LazyCluster, type Manifest, type Part } from './support/lazy-cluster.ts';
import { whyNoLazyNode } from './support/lazy-node.ts';
import { walked } from './support/tree-walk.ts';

const SEPIA = join(import.meta.dirname, '../../../sepia');
const NYDUS = `${HOST}/t/python:nydus`;
const HELLO = /^hello from python 3\./;

type Config = { readonly rootfs: { readonly diff_ids: readonly string[] } };

/** The cluster's image as Nydus beside it, by our own converter. */
async function converted(cluster: LazyCluster): Promise<Manifest> {
  const name = `${cluster.registry.replace('http://', '')}/t/python`;
  const work = ['--work-dir', join(cluster.dir, 'w')];
  await must(SEPIA, ['convert', `${name}:oci`, `${name}:nydus`, '--to', 'nydus', ...work]);
  return await cluster.manifest('t/python', 'nydus');
}

/** Fetched by the snapshotter's daemon since it started. */
async function fetchedBytes(cluster: LazyCluster): Promise<number> {
  const metrics = (await cluster.metrics()) ?? '';
  return Number(/^sepia_snapshotter_fetched_bytes_total\{.*\} (\d+)/m.exec(metrics)?.[1]);
}

/** Pushes layers of another image under a name of its own, with the diffIDs that they have. */
async function pushParts(
  cluster: LazyCluster,
  repository: string,
  manifest: Manifest,
  parts: readonly { readonly layer: Part; readonly diffId: string }[],
): Promise<void> {
  const text = (await cluster.blob('t/python', manifest.config.digest)).toString('utf8');
  const config = {
    ...(JSON.parse(text) as Config),
    rootfs: { type: 'layers', diff_ids: parts.map(({ diffId }) => diffId) },
  };
  const bytes = Buffer.from(JSON.stringify(config));
  await pushBlobInTwo(cluster.registry, repository, bytes);
  for (const { layer } of parts)
    await pushBlobInTwo(cluster.registry, repository, await cluster.blob('t/python', layer.digest));
  const body = JSON.stringify({
    ...manifest,
    config: { ...manifest.config, digest: digestOf(bytes), size: bytes.length },
    layers: parts.map(({ layer }) => layer),
  });
  const headers = { 'content-type': 'application/vnd.oci.image.manifest.v1+json' };
  const url = `${cluster.registry}/v2/${repository}/manifests/1`;
  const done = await fetch(url, { method: 'PUT', body, headers });
  if (done.status !== 201) throw new Error(`push of a manifest: ${done.status} ${await done.text()}`);
}

function plain({ mediaType, digest, size }: Part): Part {
  return { mediaType, digest, size };
}

async function indexed(t: Test, cluster: LazyCluster): Promise<void> {
  const file = ['--cluster', join(cluster.dir, 'up/cluster.json')];
  const text = await cluster.sepia('lazy', 'index', NYDUS, ...file);
  t.match(text, /lazy: index .*data blob of Nydus images\n[\s\S]*lazy: index .*bootstrap of a Nydus image\n/);
}

t.test(
  'stock containerd runs a Nydus image that no nydusd is there for',
  {
    skip: whyNoLazyNode() ?? false,
    timeout: 900_000,
  },
  async (t) => {
    const cluster = await LazyCluster.start(t, () => 'fill: none\n');
    const containerd = await Containerd24.start(join(cluster.dir, 'c'), {
      contentCache: join(cluster.dir, 'up/members/snapshotter-1/content'),
      mirrors: { [HOST]: cluster.agent },
    });
    t.teardown(() => containerd.stop());
    const manifest = await converted(cluster);
    const total = manifest.layers.reduce((sum, { size }) => sum + size, 0);
    const text = (await cluster.blob('t/python', manifest.config.digest)).toString('utf8');
    const diffIds = (JSON.parse(text) as Config).rootfs.diff_ids;

    await t.test('not indexed yet: containerd is told why it cannot have it', async (t) => {
      await cluster.withoutIndexing(async () => {
        const isTold = async (): Promise<boolean> => {
          const pulled = await containerd.tryPull(NYDUS);
          t.not(pulled.code, 0);
          return /the cluster has no index of it yet/.test(await cluster.statusText(NYDUS));
        };
        await until(isTold, 'why is told');
      });
      await cluster.sepia('pull', NYDUS, '--agent', cluster.agent);
    });

    await t.test('indexed: no layer is downloaded, the container runs, a part is fetched', async (t) => {
      await indexed(t, cluster);
      await containerd.pull(NYDUS);
      const content = await containerd.content();
      t.same(
        manifest.layers.filter(({ digest }) => content.includes(digest)),
        [],
        'the content store holds no layer',
      );
      t.match(await cluster.status(NYDUS), / {2}lazy\n/);
      const { stdout, stderr, code } = await runHeard(containerd, NYDUS, 'first', PYTHON_APP);
      t.match(stdout, HELLO, stderr);
      t.equal(code, 0);
      const fetched = await fetchedBytes(cluster);
      t.comment(`${fetched} of ${total} bytes were fetched`);
      t.ok(fetched > 0 && fetched < 0.6 * total, `${fetched} of ${total} bytes were fetched`);
    });

    await t.test('its tree is that of the image that it was made of', async (t) => {
      await cluster.index(IMAGE);
      await containerd.pull(IMAGE);
      const walk = async (image: string, name: string) => await walked(containerd, image, name, true);
      const [nydus, source] = [await walk(NYDUS, 'walk-nydus'), await walk(IMAGE, 'walk-source')];
      t.ok(source.length > 5_000, `${source.length} paths`);
      const known = new Set(source);
      t.same(
        nydus.filter((line) => !known.has(line)),
        [],
      );
      t.equal(nydus.length, source.length);
    });

    await t.test('a bootstrap does not open data blobs that its own image does not have', async (t) => {
      const layer = manifest.layers.at(-1)!;
      await pushParts(cluster, 't/thief', manifest, [{ layer, diffId: diffIds.at(-1)! }]);
      const pulled = await containerd.tryPull(`${HOST}/t/thief:1`);
      t.not(pulled.code, 0);
      t.match(
        await cluster.status(`${HOST}/t/thief:1`),
        /its bootstrap needs the data blob sha256:[0-9a-f]{64}, which is no layer of the image/,
      );
    });

    await t.test('nor is its tree found by an image that has it as an ordinary layer', async (t) => {
      const layer = plain(manifest.layers.at(-1)!);
      await pushParts(cluster, 't/plain', manifest, [{ layer, diffId: diffIds.at(-1)! }]);
      const pulled = await containerd.tryPull(`${HOST}/t/plain:1`);
      t.not(pulled.code, 0);
      t.match(await cluster.status(`${HOST}/t/plain:1`), /a part of a Nydus image/);
    });

    await t.test('the daemon restarts: the image goes on', async (t) => {
      await cluster.killDaemon();
      const { stdout, stderr } = await runHeard(containerd, NYDUS, 'second', PYTHON_APP);
      t.match(stdout, HELLO, stderr);
    });
  },
);

t.test(
  'the containerd of Debian 12 runs it through our own snapshotter',
  { skip: whyNoClients() ?? false, timeout: 900_000 },
  async (t) => {
    const socketOf = (dir: string): string => join(dir, 's.sock');
    const cluster = await LazyCluster.start(t, (dir) => `fill: none\nsnapshots-socket: ${socketOf(dir)}\n`);
    const containerd = await Containerd16.start(join(cluster.dir, 'c'), {
      snapshotsSocket: socketOf(cluster.dir),
      mirrors: { [HOST]: cluster.agent },
    });
    t.teardown(() => containerd.stop());
    const manifest = await converted(cluster);
    await indexed(t, cluster);
    const pulled = await containerd.tryPull(NYDUS);
    t.equal(pulled.code, 0, pulled.stderr);
    const content = await containerd.content();
    t.notOk(
      manifest.layers.some(({ digest }) => content.includes(digest)),
      'no layer is downloaded',
    );
    const { stdout, stderr } = await runHeard(containerd, NYDUS, 'first', PYTHON_APP);
    t.match(stdout, HELLO, stderr);
    await containerd.removeImages();
  },
);
