import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { Containerd16 } from '@sepia/test-support/clients/containerd16';
import { PYTHON_APP, runHeard } from '@sepia/test-support/clients/heard';
import { must, whyNoClients } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { HOST, IMAGE, LazyCluster, type Manifest } from './support/lazy-cluster.ts';
import { runsMapped } from './support/user-namespace.ts';

const HELLO = /^hello from python 3\./;

interface Here {
  readonly cluster: LazyCluster;
  readonly containerd: Containerd16;
  readonly manifest: Manifest;
}

async function start(t: Test): Promise<Here> {
  const socketOf = (dir: string): string => join(dir, 's.sock');
  const cluster = await LazyCluster.start(t, (dir) => `fill: none\nsnapshots-socket: ${socketOf(dir)}\n`);
  const containerd = await Containerd16.start(join(cluster.dir, 'c'), {
    snapshotsSocket: socketOf(cluster.dir),
    mirrors: { [HOST]: cluster.agent },
  });
  t.teardown(() => containerd.stop());
  return { cluster, containerd, manifest: await cluster.manifest('t/python', 'oci') };
}

const erofsMounts = (dir: string): number =>
  readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(dir) && line.includes(' - erofs ')).length;

t.test(
  'the containerd of Debian 12 starts an unconverted image before its layers are there',
  { skip: whyNoClients() ?? false, timeout: 900_000 },
  async (t) => {
    const { cluster, containerd, manifest } = await start(t);
    const runs = async (t: Test, name: string): Promise<void> => {
      const { stdout, stderr, code } = await runHeard(containerd, IMAGE, name, PYTHON_APP);
      t.match(stdout, HELLO, stderr);
      t.equal(code, 0);
    };

    await t.test('not indexed yet: it is pulled and unpacked as ever', async (t) => {
      const pulled = await containerd.tryPull(IMAGE);
      t.equal(pulled.code, 0, pulled.stderr);
      t.match(await cluster.status(IMAGE), /ordinary/);
      await runs(t, 'ordinary');
      await containerd.removeImages();
    });

    await t.test('indexed: no layer is downloaded, the container runs', async (t) => {
      await cluster.index(IMAGE);
      const pulled = await containerd.tryPull(IMAGE);
      t.equal(pulled.code, 0, pulled.stderr);
      const content = await containerd.content();
      t.same(
        manifest.layers.filter((layer) => content.includes(layer.digest)),
        [],
        'the content store holds no layer',
      );
      t.match(await cluster.status(IMAGE), / {2}lazy\n/);
      t.match(
        await cluster.status(),
        /\ndoor 2: \S+\/s\.sock, a snapshotter for containerd 1\.6 to 2\.3; not door 1: .*containerd/,
      );
      await runs(t, 'first');
      t.equal(erofsMounts(cluster.dir), manifest.layers.length);
      const metrics = (await cluster.metrics()) ?? '';
      const fetched = Number(/^sepia_snapshotter_fetched_bytes_total\{.*\} (\d+)/m.exec(metrics)?.[1]);
      const total = manifest.layers.reduce((sum, { size }) => sum + size, 0);
      t.comment(`${fetched} of ${total} compressed bytes were read`);
      t.ok(fetched > 0 && fetched < 0.6 * total, `${fetched} of ${total} compressed bytes were read`);
      const { stdout } = await must('ctr', [
        ...['-a', join(cluster.dir, 'c/c.sock'), '-n', 'k8s.io', 'snapshots', '--snapshotter', 'sepia'],
        ...['usage', '-b'],
      ]);
      const used = [...stdout.matchAll(/\s(\d+)\s+\d+\s*$/gm)].reduce((sum, [, n]) => sum + Number(n), 0);
      t.ok(
        used > 0 && used < 3 * total,
        `usage is what is here: ${used} bytes, ${total} compressed\n${stdout}`,
      );
    });

    await t.test('in a user namespace, as pods with hostUsers: false are', async (t) => {
      // This client leaves labels to the snapshotter; what it can do itself is a copy.
      await runsMapped(t, cluster.dir, IMAGE, 'copied', (args) =>
        containerd.ctr(['run', '--snapshotter', 'sepia', ...args]),
      );
    });

    await t.test('either side restarts, in any order: snapshots stay, containers run', async (t) => {
      await cluster.killDaemon();
      await containerd.untilConnected();
      await runs(t, 'after-daemon');
      await containerd.end('SIGKILL');
      await containerd.begin();
      await runs(t, 'after-containerd');
      await containerd.end('SIGTERM');
      await cluster.killDaemon();
      await containerd.begin();
      await runs(t, 'after-both');
      t.equal(erofsMounts(cluster.dir), manifest.layers.length, 'mounted once');
    });

    await t.test('an image that is removed leaves nothing', async (t) => {
      await containerd.removeImages();
      await until(() => erofsMounts(cluster.dir) === 0, 'no layer is mounted', 60_000);
      t.match(await cluster.metrics(), /sepia_snapshotter_snapshots\{.*\} 0/);
    });

    await t.test(
      'an image that claims this image’s diffIDs for its own layer is unpacked, not shown',
      async (t) => {
        t.equal((await containerd.tryPull(IMAGE)).code, 0, 'its layers may be shown to its own pull');
        await containerd.removeImages();
        const own = gzipSync(Buffer.alloc(1024 * 1024, 'evil'));
        await cluster.pushLike(
          manifest,
          't/evil',
          manifest.layers.map(() => own),
        );
        const pulled = await containerd.tryPull(`${HOST}/t/evil:1`);
        t.not(pulled.code, 0);
        t.match(pulled.stderr, /wrong diff id|failed to extract/, 'as containerd alone would say');
        t.match(await cluster.status(`${HOST}/t/evil:1`), /not lazy/);
        t.equal(erofsMounts(cluster.dir), 0);
      },
    );
  },
);
