import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Containerd24 } from '@sepia/test-support/clients/containerd24';
import { PYTHON_APP, runHeard } from '@sepia/test-support/clients/heard';
import { LazyDaemon } from '@sepia/test-support/clients/lazy-daemon';
import { startMadeRegistry } from '@sepia/test-support/clients/made-registry';
import { freePort, must } from '@sepia/test-support/testbed';
import { Up } from '@sepia/test-support/up';
import t from 'tap';
import { whyNoLazyNode } from './support/lazy-node.ts';
import { runsMapped } from './support/user-namespace.ts';

const ROOT = join(import.meta.dirname, '../../..');
const HOST = 'registry.example:5000';
const IMAGE = `${HOST}/t/python:oci`;
const HELLO = /^hello from python 3\./;

interface Layer {
  readonly digest: string;
  readonly size: number;
}

t.test(
  'an unconverted image starts on stock containerd before its layers are there',
  { skip: whyNoLazyNode() ?? false, timeout: 600_000 },
  async (t) => {
    const dir = mkdtempSync('/tmp/sepia-lazy-');
    t.teardown(() => rmSync(dir, { recursive: true, force: true }));
    const port = await freePort();
    await startMadeRegistry(t, port, 'python');
    await using up = await Up.start(join(dir, 'up'), [
      ...['--agents', '1', '--origins', '1', '--trackers', '1', '--proxies', '1'],
      ...['--upstream', `local-registry=http://127.0.0.1:${port},${HOST}`, '--ports-from', '22000'],
    ]);
    const layers = await layersOf(port);
    const index = [
      'lazy',
      'index',
      IMAGE,
      '--agent',
      up.cluster.agents[0]!.url,
      '--out',
      join(dir, 'indexes'),
    ];
    await must(join(ROOT, 'sepia'), index);
    const indexes = layers.map(({ digest }) => join(dir, 'indexes', `${digest.slice(7)}.lazy`));
    const daemon = await LazyDaemon.start(t, dir, {
      agent: up.cluster.agents[0]!.url,
      image: `${HOST}/t/python`,
      indexes,
    });
    const containerd = await Containerd24.start(join(dir, 'c'), {
      contentCache: join(dir, 'content'),
      mirrors: { [HOST]: up.cluster.agents[0]!.url },
    });
    t.teardown(() => containerd.stop());

    await t.test('pull and run: no layer is downloaded', async (t) => {
      await containerd.pull(IMAGE);
      const content = await containerd.content();
      t.same(
        layers.filter((layer) => content.includes(layer.digest)),
        [],
        'the content store holds no layer',
      );
      const { stdout, stderr, code } = await runHeard(containerd, IMAGE, 'first', PYTHON_APP);
      t.match(stdout, HELLO, stderr);
      t.equal(code, 0);
      const total = layers.reduce((sum, layer) => sum + layer.size, 0);
      const fetched = await daemon.fetchedBytes();
      t.ok(fetched > 0 && fetched < 0.6 * total, `${fetched} of ${total} compressed bytes were read`);
    });

    await t.test('layers are for root alone, whatever the folder above says', async (t) => {
      chmodSync(dir, 0o755);
      const mount = join(dir, 'mnt');
      const files = readdirSync(mount);
      t.ok(files.length > 0);
      for (const path of [mount, ...files.map((name) => join(mount, name))]) {
        const nobody = spawnSync('dd', [`if=${path}`, 'count=1', 'status=none'], {
          uid: 65_534,
          gid: 65_534,
        });
        t.match(nobody.stderr.toString(), /Permission denied/, path);
      }
      chmodSync(dir, 0o700);
    });

    await t.test('in a user namespace, as pods with hostUsers: false are', async (t) => {
      // Copies are none that its client could make of what the erofs snapshotter mounts, whoever made the layers.
      await runsMapped(t, dir, IMAGE, 'labelled', (args) =>
        containerd.ctr(['run', '--snapshotter', 'erofs', ...args]),
      );
    });

    await t.test('fetched: all of it is in the content store, and can be exported', async (t) => {
      const tar = join(dir, 'exported.tar');
      t.not((await containerd.ctr(['images', 'export', '--local', tar, IMAGE])).code, 0, 'not before');
      const { ctr, address, hostsDir } = containerd.paths;
      await must(join(ROOT, 'sepia'), [
        ...['lazy', 'fetch', IMAGE, '--address', address, '--hosts-dir', hostsDir, '--ctr', ctr],
      ]);
      const content = await containerd.content();
      t.same(
        layers.filter((layer) => !content.includes(layer.digest)),
        [],
      );
      const exported = await containerd.ctr(['images', 'export', '--local', tar, IMAGE]);
      t.equal(exported.code, 0, exported.stderr);
    });

    await t.test('the daemon is killed: who reads waits for the next one', async (t) => {
      const before = await daemon.pid();
      const running = runHeard(containerd, IMAGE, 'second', WALK);
      process.kill(before, 'SIGKILL');
      const { stdout, stderr, code } = await running;
      t.equal(code, 0, stderr);
      t.match(stdout, /^[1-9]\d* files, [0-9a-f]{64}\n$/);
      t.not(await daemon.pid(), before);
      const again = await runHeard(containerd, IMAGE, 'third', WALK);
      t.equal(again.stdout, stdout, 'the same bytes');
    });
  },
);

/** Reads every file of the image and hashes names and bytes. */
const WALK = `python3 -c '
import hashlib, os
h, n = hashlib.sha256(), 0
for folder, dirs, files in os.walk("/", followlinks=False):
    dirs[:] = sorted(d for d in dirs if folder != "/" or d not in ("proc", "sys", "dev", "run", "tmp"))
    for name in sorted(files):
        path = os.path.join(folder, name)
        if os.path.islink(path) or not os.path.isfile(path) or path in ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname"): continue
        with open(path, "rb") as f:
            h.update(path.encode()); h.update(f.read()); n += 1
print(f"{n} files, {h.hexdigest()}")
'`;

async function layersOf(port: number): Promise<Layer[]> {
  const answer = await fetch(`http://127.0.0.1:${port}/v2/t/python/manifests/oci`, {
    headers: { accept: 'application/vnd.oci.image.manifest.v1+json' },
  });
  return ((await answer.json()) as { layers: Layer[] }).layers;
}
