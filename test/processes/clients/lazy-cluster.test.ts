import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { Containerd24 } from '@sepia/test-support/clients/containerd24';
import { PYTHON_APP, runHeard } from '@sepia/test-support/clients/heard';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { digestOf, HOST, IMAGE, LazyCluster } from './support/lazy-cluster.ts';
import { whyNoLazyNode } from './support/lazy-node.ts';

const HELLO = /^hello from python 3\./;

t.test(
  'pulled once, indexed by the cluster, lazy from then on; forged images are not',
  { skip: whyNoLazyNode() ?? false, timeout: 900_000 },
  async (t) => {
    const cluster = await LazyCluster.start(t, () => 'fill: none\n');
    const containerd = await Containerd24.start(join(cluster.dir, 'c'), {
      contentCache: join(cluster.dir, 'up/members/snapshotter-1/content'),
      mirrors: { [HOST]: cluster.agent },
    });
    t.teardown(() => containerd.stop());
    const manifest = await cluster.manifest('t/python', 'oci');

    await t.test('the first pull is ordinary, and the accelerator indexes the image', async (t) => {
      await cluster.withoutIndexing(async () => {
        const isTold = async (): Promise<boolean> => {
          await cluster.sepia('pull', IMAGE, '--agent', cluster.agent);
          const status = await cluster.statusText(IMAGE);
          t.notMatch(status, / {2}lazy\n/);
          return /ordinary[\s\S]*the cluster has no index of it yet/.test(status);
        };
        await until(isTold, 'it is ordinary, and why is told');
      });
      await cluster.index(IMAGE);
    });

    await t.test('the next pull is lazy: no layer is downloaded, the container runs', async (t) => {
      await containerd.pull(IMAGE);
      const content = await containerd.content();
      t.same(
        manifest.layers.filter((layer) => content.includes(layer.digest)),
        [],
        'the content store holds no layer',
      );
      t.match(await cluster.status(IMAGE), / {2}lazy\n/);
      const { stdout, stderr, code } = await runHeard(containerd, IMAGE, 'first', PYTHON_APP);
      t.match(stdout, HELLO, stderr);
      t.equal(code, 0);
      const admin = cluster.up.cluster.snapshotters[0]!.adminUrl;
      const profile = (await cluster.sepia('lazy', 'profile', IMAGE, '--admin', admin)).split('\n');
      const places = [/\/libc\.so\.6$/, /\/encodings\/.*utf_8/].map((name) =>
        profile.findIndex((path) => name.test(path)),
      );
      t.ok(
        places[0]! > 0 && places[0]! < places[1]!,
        `the libraries first, then what Python reads: ${places}`,
      );
      const keep = ['--keep', '--cluster', join(cluster.dir, 'up/cluster.json')];
      t.match(
        await cluster.sepia('lazy', 'profile', IMAGE, '--admin', admin, ...keep),
        /^kept in the cluster: (\d+) of \1 files of local-registry\/t\/python@sha256:/,
      );
    });

    await t.test('an image that claims this image’s diffIDs for its own layer finds nothing', async (t) => {
      const own = gzipSync(Buffer.alloc(1024 * 1024, 'evil'));
      await cluster.pushLike(
        manifest,
        't/evil',
        manifest.layers.map(() => own),
      );
      const pulled = await containerd.tryPull(`${HOST}/t/evil:1`);
      t.not(pulled.code, 0, 'it is not pulled');
      t.match(
        await cluster.status(`${HOST}/t/evil:1`),
        /ordinary: it names sha256:[0-9a-f]{64} as its layer sha256:[0-9a-f]{64}, which holds sha256:[0-9a-f]{64}: no runtime/,
      );
      t.notOk((await containerd.content()).includes(digestOf(own)), 'not even its own layer was downloaded');
    });

    await t.test(
      'the same image, compressed otherwise and not indexed yet, is pulled and runs',
      async (t) => {
        const layers: Buffer[] = [];
        for (const { digest } of manifest.layers)
          layers.push(gzipSync(gunzipSync(await cluster.blob('t/python', digest)), { level: 1 }));
        await cluster.pushLike(manifest, 't/again', layers);
        const pulled = await containerd.tryPull(`${HOST}/t/again:1`);
        t.equal(pulled.code, 0, pulled.stderr);
        const { stdout, stderr } = await runHeard(containerd, `${HOST}/t/again:1`, 'again', PYTHON_APP);
        t.match(stdout, HELLO, stderr);
      },
    );

    await t.test('the daemon restarts: what was shown stays, at the same path', async (t) => {
      await cluster.killDaemon();
      const { stdout, stderr } = await runHeard(containerd, IMAGE, 'second', PYTHON_APP);
      t.match(stdout, HELLO, stderr);
    });
  },
);
