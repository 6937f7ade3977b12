import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Containerd16 } from '@sepia/test-support/clients/containerd16';
import { PYTHON_APP, runHeard } from '@sepia/test-support/clients/heard';
import { startMadeRegistry } from '@sepia/test-support/clients/made-registry';
import { Stargz, stargzProgram } from '@sepia/test-support/clients/stargz/stargz';
import { freePort, must, whyNoClients } from '@sepia/test-support/testbed';
import { Up } from '@sepia/test-support/up';
import t, { type Test } from 'tap';
import { Relay } from '../support/relay.ts';

const ROOT = join(import.meta.dirname, '../../../..');
const FACTS = join(import.meta.dirname, '../support/tree-facts.py');
const HOST = 'registry.example:5000';
const HELLO = /^hello from python 3\./;
const TOC_DIGEST = 'containerd.io/snapshot/stargz/toc.digest';
const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
/** Read at the start of every Python, and by no means the first of the layer. */
const PRIORITIZED = [
  'usr/bin/python3.11',
  'usr/lib/python3.11/encodings/__init__.py',
  'usr/lib/python3.11/os.py',
];

interface Manifest {
  readonly layers: {
    readonly digest: string;
    readonly size: number;
    readonly annotations: Record<string, string>;
  }[];
}

function whyNot(): string | undefined {
  if (!existsSync('/dev/fuse')) return 'needs /dev/fuse';
  if (stargzProgram() === undefined) return 'needs test/support/src/clients/stargz/stargz.sh';
  return whyNoClients();
}

/** A node of its own, cold: containerd and a stargz-snapshotter, which read from `mirror` on this machine. */
async function node(
  t: Test,
  dir: string,
  mirror: string,
): Promise<{ stargz: Stargz; containerd: Containerd16 }> {
  mkdirSync(dir);
  const stargz = await Stargz.start(join(dir, 's'), { [HOST]: mirror });
  const containerd = await Containerd16.start(join(dir, 'c'), {
    ...{ snapshotsSocket: stargz.socket, snapshotter: 'stargz' },
    mirrors: { [HOST]: `http://${mirror}` },
  });
  t.teardown(async () => {
    await containerd.stop();
    await stargz.stop();
  });
  return { stargz, containerd };
}

async function treeOf(path: string): Promise<Record<string, unknown>> {
  const tree = JSON.parse((await must('python3', [FACTS, path])).stdout) as Record<string, unknown>;
  await must('umount', [path]);
  return tree;
}

t.test('stargz-snapshotter', { skip: whyNot() ?? false, timeout: 600_000 }, async (t) => {
  const dir = mkdtempSync('/tmp/sepia-sg-');
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const port = await freePort();
  const registry = `127.0.0.1:${port}`;
  await startMadeRegistry(t, port, 'python');
  writeFileSync(join(dir, 'first'), `${PRIORITIZED.join('\n')}\n`);
  const convert = async (tag: string, ...more: string[]): Promise<void> => {
    const [from, to] = [`${registry}/t/python:oci`, `${registry}/t/python:${tag}`];
    await must(join(ROOT, 'sepia'), ['convert', from, to, '--work-dir', join(dir, 'w'), ...more]);
  };
  await convert('esgz');
  await convert('first', '--prioritize', join(dir, 'first'));
  const manifestOf = async (tag: string): Promise<Manifest> => {
    const answer = await fetch(`http://${registry}/v2/t/python/manifests/${tag}`, {
      headers: { accept: MANIFEST },
    });
    return (await answer.json()) as Manifest;
  };
  const sizeOf = ({ layers }: Manifest): number => layers.reduce((sum, { size }) => sum + size, 0);

  /** Pulls and runs an image; nothing may have been downloaded but what was read. */
  const start = async (
    t: Test,
    { stargz, containerd }: Awaited<ReturnType<typeof node>>,
    tag: string,
  ): Promise<number> => {
    const image = `${HOST}/t/python:${tag}`;
    const manifest = await manifestOf(tag);
    const before = stargz.prepared().length;
    const startedMs = performance.now();
    const pulled = await containerd.tryPull(image);
    t.equal(pulled.code, 0, pulled.stderr);
    const { stdout, stderr } = await runHeard(containerd, image, `run-${tag}`, PYTHON_APP);
    const ms = performance.now() - startedMs;
    t.match(stdout, HELLO, stderr);
    const prepared = stargz.prepared().slice(before);
    t.same(
      prepared,
      manifest.layers.map(() => true),
      'every layer is its own',
    );
    const content = await containerd.content();
    t.same(
      manifest.layers.filter(({ digest }) => content.includes(digest)),
      [],
      'containerd downloaded no layer',
    );
    t.ok(stargz.mounts().length >= manifest.layers.length, 'every layer is mounted');
    return ms;
  };

  const direct = { ms: 0, bytes: 0 };
  await t.test('starts what we convert before it is there; its tree is that of the source', async (t) => {
    const relay = await Relay.to(t, port);
    const here = await node(t, join(dir, '1'), `127.0.0.1:${relay.port}`);
    direct.ms = await start(t, here, 'esgz');
    direct.bytes = relay.received;
    const whole = sizeOf(await manifestOf('esgz'));
    t.ok(direct.bytes < 0.6 * whole, `${direct.bytes} of ${whole} bytes were read`);
    await here.containerd.mount(join(dir, 'lazy'));
    const lazy = await treeOf(join(dir, 'lazy'));
    await here.containerd.pullFor('overlayfs', `${HOST}/t/python:oci`);
    await here.containerd.mount(join(dir, 'plain'), 'overlayfs');
    const plain = await treeOf(join(dir, 'plain'));
    t.ok(Object.keys(plain).length > 1000, 'there is something to compare');
    // Unpacking leaves the time of the root at that of the unpacking.
    const differ = Object.keys({ ...plain, ...lazy }).filter(
      (path) => path !== '' && JSON.stringify(plain[path]) !== JSON.stringify(lazy[path]),
    );
    t.same(
      differ.slice(0, 10).map((path) => [Buffer.from(path, 'hex').toString(), plain[path], lazy[path]]),
      [],
      'facts and content of every file',
    );
  });

  await t.test('reads prioritized files ahead', async (t) => {
    const here = await node(t, join(dir, '2'), registry);
    await start(t, here, 'first');
  });

  await t.test('refuses a layer whose TOC is another than the manifest says', async (t) => {
    const manifest = await manifestOf('esgz');
    const lie = `sha256:${'0'.repeat(64)}`;
    const layers = manifest.layers.map((layer, index) =>
      index === 0 ? { ...layer, annotations: { ...layer.annotations, [TOC_DIGEST]: lie } } : layer,
    );
    const body = JSON.stringify({ ...manifest, layers });
    const put = { method: 'PUT', headers: { 'content-type': MANIFEST }, body };
    t.equal((await fetch(`http://${registry}/v2/t/python/manifests/lie`, put)).status, 201);
    const { stargz, containerd } = await node(t, join(dir, '3'), registry);
    const pulled = await containerd.tryPull(`${HOST}/t/python:lie`);
    t.equal(pulled.code, 0, pulled.stderr);
    t.equal(stargz.prepared()[0], false);
    t.match(stargz.log(), /invalid TOC JSON|TOC.*(?:digest|verif)/i);
    t.ok((await containerd.content()).includes(layers[0]!.digest), 'it was downloaded and unpacked');
  });

  await t.test('reads through an agent', async (t) => {
    const relay = await Relay.to(t, port);
    const up = await Up.start(join(dir, 'up'), [
      ...['--agents', '1', '--origins', '1', '--trackers', '1', '--proxies', '1'],
      ...['--upstream', `local-registry=http://127.0.0.1:${relay.port},${HOST}`, '--ports-from', '22500'],
    ]);
    t.teardown(() => up.stop());
    const here = await node(t, join(dir, '4'), new URL(up.cluster.agents[0]!.url).host);
    const ms = await start(t, here, 'esgz');
    const bytes = relay.received;
    t.comment(
      `cold through an agent, against direct: ${(ms / direct.ms).toFixed(2)} of the time (${Math.round(ms)} ms), ` +
        `${(bytes / direct.bytes).toFixed(2)} of the bytes (${bytes})`,
    );
    const whole = sizeOf(await manifestOf('esgz'));
    t.ok(bytes < 0.8 * whole, `${bytes} of ${whole} bytes came from the registry`);
  });
});
