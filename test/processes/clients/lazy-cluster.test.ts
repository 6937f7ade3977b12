import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { freePort, must, startRegistry, testbed, whyNoClients } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import { Up } from '@sepia/test-support/up';
import t from 'tap';
import { Containerd24, containerd24 } from './support/containerd24.ts';

const ROOT = join(import.meta.dirname, '../../..');
const HOST = 'registry.example:5000';
const IMAGE = `${HOST}/t/python:oci`;
const HELLO = /^hello from python 3\./;

function whyNot(): string | undefined {
  return (
    whyNoClients() ??
    (containerd24() === undefined ? 'run test/processes/clients/support/containerd24.sh' : undefined)
  );
}

interface Part {
  readonly digest: string;
  readonly size: number;
  readonly mediaType: string;
}

interface Manifest {
  readonly config: Part;
  readonly layers: readonly Part[];
}

const digestOf = (bytes: Buffer): string => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

t.test(
  'pulled once, indexed by the cluster, lazy from then on; forged images are not',
  { skip: whyNot() ?? false, timeout: 900_000 },
  async (t) => {
    const dir = mkdtempSync('/tmp/sepia-lc-');
    t.teardown(() => rmSync(dir, { recursive: true, force: true }));
    const port = await freePort();
    const registry = `http://127.0.0.1:${port}`;
    await startRegistry(t, port);
    await testbed('make-image.sh', ['python', join(dir, 'oci')]);
    await testbed('make-image.sh', ['push', `${join(dir, 'oci')}:python`, `127.0.0.1:${port}/t/python:oci`]);
    const root = join(dir, 'up');
    mkdirSync(join(root, 'overrides'), { recursive: true });
    writeFileSync(join(root, 'overrides', 'agent.yaml'), 'lazy-wait: 20s\n');
    writeFileSync(join(root, 'overrides', 'snapshotter.yaml'), 'fill: none\n');
    const holder = (): number =>
      Number(readFileSync(join(root, 'members/snapshotter-1/data/holder.pid'), 'utf8'));
    await using up = await Up.start(root, [
      ...['--agents', '1', '--origins', '1', '--trackers', '1', '--proxies', '1', '--lazy'],
      ...['--upstream', `local-registry=${registry},${HOST}`, '--ports-from', '22000'],
    ]);
    t.teardown(async () => {
      process.kill(holder(), 'SIGTERM');
      const isMounted = (): boolean => readFileSync('/proc/self/mountinfo', 'utf8').includes(root);
      await until(() => !isMounted(), 'the mount is gone', 60_000);
    });
    const agent = up.cluster.agents[0]!.url;
    const clusterJson = join(root, 'cluster.json');
    const sepia = async (...args: string[]): Promise<string> =>
      (await must(join(ROOT, 'sepia'), args)).stdout;
    const status = async (ref: string): Promise<string> =>
      await sepia('lazy', 'status', ref, '--admin', up.cluster.snapshotters[0]!.adminUrl);
    const containerd = await Containerd24.start(join(dir, 'c'), {
      contentCache: join(root, 'members/snapshotter-1/content'),
      mirrors: { [HOST]: agent },
    });
    t.teardown(() => containerd.stop());
    const manifest = await manifestOf(registry, 't/python', 'oci');

    await t.test('the first pull is ordinary, and the accelerator indexes the image', async (t) => {
      await sepia('pull', IMAGE, '--agent', agent);
      t.match(await status(IMAGE), /ordinary[\s\S]*the cluster has no index of it yet/);
      await until(
        async () => {
          const shown = await sepia('lazy', 'show', IMAGE, '--cluster', clusterJson);
          return shown
            .trim()
            .split('\n')
            .every((line) => line.includes('  lazy: index '));
        },
        'every layer has its index',
        120_000,
      );
    });

    await t.test('the next pull is lazy: no layer is downloaded, the container runs', async (t) => {
      await containerd.pull(IMAGE);
      const content = await containerd.content();
      t.same(
        manifest.layers.filter((layer) => content.includes(layer.digest)),
        [],
        'the content store holds no layer',
      );
      t.match(await status(IMAGE), / {2}lazy\n/);
      const { stdout, stderr, code } = await containerd.run(IMAGE, 'first');
      t.match(stdout, HELLO, stderr);
      t.equal(code, 0);
    });

    await t.test('an image that claims this image’s diffIDs for its own layer finds nothing', async (t) => {
      const text = (await blobOf(registry, 't/python', manifest.config.digest)).toString('utf8');
      // A config of its own: one that containerd has already is not asked for again.
      const config = Buffer.from(JSON.stringify({ ...JSON.parse(text), author: 'evil' }));
      const own = gzipSync(Buffer.alloc(1024 * 1024, 'evil'));
      await push(registry, 't/evil', own);
      await push(registry, 't/evil', config);
      const layers = manifest.layers.map((layer) => ({ ...layer, digest: digestOf(own), size: own.length }));
      const ownConfig = { ...manifest.config, digest: digestOf(config), size: config.length };
      await pushManifest(registry, 't/evil', { ...manifest, config: ownConfig, layers });
      const pulled = await containerd.tryPull(`${HOST}/t/evil:1`);
      t.not(pulled.code, 0, 'it is not pulled');
      t.match(
        await status(`${HOST}/t/evil:1`),
        /ordinary: it names sha256:[0-9a-f]{64} as its layer sha256:[0-9a-f]{64}, which holds sha256:[0-9a-f]{64}: no runtime/,
      );
      t.notOk((await containerd.content()).includes(digestOf(own)), 'not even its own layer was downloaded');
    });

    await t.test(
      'the same image, compressed otherwise and not indexed yet, is pulled and runs',
      async (t) => {
        const text = (await blobOf(registry, 't/python', manifest.config.digest)).toString('utf8');
        const config = Buffer.from(JSON.stringify({ ...JSON.parse(text), author: 'another builder' }));
        await push(registry, 't/again', config);
        const layers: Part[] = [];
        for (const layer of manifest.layers) {
          const blob = gzipSync(gunzipSync(await blobOf(registry, 't/python', layer.digest)), { level: 1 });
          await push(registry, 't/again', blob);
          layers.push({ ...layer, digest: digestOf(blob), size: blob.length });
        }
        const ownConfig = { ...manifest.config, digest: digestOf(config), size: config.length };
        await pushManifest(registry, 't/again', { ...manifest, config: ownConfig, layers });
        const pulled = await containerd.tryPull(`${HOST}/t/again:1`);
        t.equal(pulled.code, 0, pulled.stderr);
        const { stdout, stderr } = await containerd.run(`${HOST}/t/again:1`, 'again');
        t.match(stdout, HELLO, stderr);
      },
    );

    await t.test('the daemon restarts: what was shown stays, at the same path', async (t) => {
      const before = childOf(holder());
      process.kill(before, 'SIGKILL');
      await until(() => childOf(holder()) !== before, 'the next daemon', 60_000);
      const { stdout, stderr } = await containerd.run(IMAGE, 'second');
      t.match(stdout, HELLO, stderr);
    });
  },
);

function childOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0] || Number.NaN);
}

async function manifestOf(registry: string, repository: string, tag: string): Promise<Manifest> {
  const headers = { accept: 'application/vnd.oci.image.manifest.v1+json' };
  return (await (
    await fetch(`${registry}/v2/${repository}/manifests/${tag}`, { headers })
  ).json()) as Manifest;
}

async function blobOf(registry: string, repository: string, digest: string): Promise<Buffer> {
  return Buffer.from(await (await fetch(`${registry}/v2/${repository}/blobs/${digest}`)).arrayBuffer());
}

async function push(registry: string, repository: string, bytes: Buffer): Promise<void> {
  const begun = await fetch(`${registry}/v2/${repository}/blobs/uploads/`, { method: 'POST' });
  const url = new URL(begun.headers.get('location')!, registry);
  url.searchParams.set('digest', digestOf(bytes));
  const headers = { 'content-type': 'application/octet-stream' };
  const done = await fetch(url, { method: 'PUT', body: new Uint8Array(bytes), headers });
  if (done.status !== 201) throw new Error(`push: ${done.status}`);
}

async function pushManifest(registry: string, repository: string, manifest: object): Promise<void> {
  const headers = { 'content-type': 'application/vnd.oci.image.manifest.v1+json' };
  const url = `${registry}/v2/${repository}/manifests/1`;
  const done = await fetch(url, { method: 'PUT', body: JSON.stringify(manifest), headers });
  if (done.status !== 201) throw new Error(`push: ${done.status}`);
}
