import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Containerd24 } from '@sepia/test-support/clients/containerd24';
import { runHeard } from '@sepia/test-support/clients/heard';
import { testbed } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { HOST, LazyCluster } from './support/lazy-cluster.ts';
import { whyNoLazyNode } from './support/lazy-node.ts';

/** Size of the one large file of each image, in units of 10⁶ bytes. */
const FILE_MB = 24;
const READ = 'sha256sum /data/noise1.bin';
/** The daemon looks at containerd once a minute. */
const REMOVED_MS = 240_000;
const REMOVED = 'sepia_snapshotter_layers_removed';
/** Characters of the daemon's log that are told. */
const MAX_LOG = 4_000;

interface Here {
  readonly cluster: LazyCluster;
  readonly containerd: Containerd24;
  readonly images: readonly [string, string];
}

/** Two images that have their lowest layer in common, and a disk that has room for the other of one of them. */
async function start(t: Test): Promise<Here> {
  const cluster = await LazyCluster.start(
    t,
    (dir) => `fill: none\ncontainerd: ${dir}/c/c.sock\ncache: {budget: ${FILE_MB + 12}MB}\n`,
  );
  const images = ['one', 'two'].map((name) => `${HOST}/t/${name}:1`) as [string, string];
  for (const [at, image] of images.entries()) {
    const oci = join(cluster.dir, `oci-${at}`);
    await testbed('make-image.sh', ['big', oci, String(FILE_MB), '1', String(at + 1)]);
    const target = image.replace(HOST, new URL(cluster.registry).host);
    await testbed('make-image.sh', ['push', `${oci}:big${FILE_MB}x1-${at + 1}`, target]);
    await cluster.index(image);
  }
  const containerd = await Containerd24.start(join(cluster.dir, 'c'), {
    contentCache: join(cluster.dir, 'up/members/snapshotter-1/content'),
    mirrors: { [HOST]: cluster.agent },
  });
  t.teardown(() => containerd.stop());
  return { cluster, containerd, images };
}

t.test(
  'a disk for less than two images: what is in use stays whatever its size, then the oldest makes room',
  {
    skip: whyNoLazyNode() ?? false,
    timeout: 900_000,
  },
  async (t) => {
    const { cluster, containerd, images } = await start(t);
    const [one, two] = images;
    const admin = cluster.up.cluster.snapshotters[0]!.adminUrl;
    const shown = (): number => {
      const root = join(cluster.dir, 'up/members/snapshotter-1/content/sha256');
      return existsSync(root)
        ? readdirSync(root).flatMap((shard) => readdirSync(join(root, shard))).length
        : 0;
    };
    const sumOf = async (image: string, name: string): Promise<string> => {
      const { stdout, stderr, code } = await runHeard(containerd, image, name, READ);
      t.equal(code, 0, stderr);
      return stdout;
    };
    const { daemon } = cluster;
    const metric = async (name: string): Promise<number> =>
      Number(new RegExp(`^${name}\\{.*\\} (\\d+)`, 'm').exec((await cluster.metrics()) ?? '')?.[1]);
    /** What does not come says in few words what there is, then what the daemon said last. */
    const told = async (wait: () => Promise<unknown>): Promise<void> => {
      try {
        await wait();
      } catch (error) {
        const facts = {
          ...{ daemons: [daemon, cluster.daemon], removed: await metric(REMOVED), shown: shown() },
          ...{ cache: await cluster.told('/debug/cache'), ...(await containerd.holds()) },
        };
        const message = `${(error as Error).message}: ${JSON.stringify(facts)}\n${cluster.log(MAX_LOG)}`;
        throw new Error(message, { cause: error });
      }
    };
    const sums: string[] = [];
    for (const image of images) {
      await containerd.pull(image);
      t.match(await cluster.status(image), / {2}lazy\n/);
      sums.push(await sumOf(image, `first-${sums.length}`));
    }

    await t.test('both are in use: nothing goes, and it is told', async (t) => {
      const status = async (): Promise<string> => await cluster.sepia('lazy', 'status', '--admin', admin);
      const isUsed = async (): Promise<boolean> => {
        const text = await status();
        return /in use; .*cache\.budget/.test(text) && /cache: .*, 3 of 3 layers in use/.test(text);
      };
      await until(isUsed, 'too much is used, by all three layers', REMOVED_MS);
      const isWarned = async (): Promise<boolean> =>
        /warning: layers take .* in use/.test(await (await fetch(`${admin}/readyz`)).text());
      await until(isWarned, '/readyz says so', REMOVED_MS);
      t.equal(await sumOf(one, 'again-1'), sums[0]);
      t.equal(await sumOf(two, 'again-2'), sums[1]);
      t.equal(shown(), 3, 'the lowest layer is the same');
    });

    await t.test('an image is removed: the layer that was its own goes, with its bytes', async (t) => {
      t.equal((await containerd.snapshots()).length, 3, 'one for each layer, and none of a container');
      t.match(await containerd.ctr(['images', 'rm', '--sync', one]), { code: 0 });
      const isForgotten = async (): Promise<boolean> => (await containerd.snapshots()).length === 2;
      await told(() => until(isForgotten, 'containerd has no snapshot of it any more', REMOVED_MS));
      await told(() => until(async () => (await metric(REMOVED)) >= 1, 'it goes', REMOVED_MS));
      t.equal(await metric(REMOVED), 1, 'it alone');
      t.equal(cluster.daemon, daemon, 'it is the daemon that saw the pulls');
      await until(
        async () => (await metric('sepia_snapshotter_cache_bytes')) < FILE_MB * 1.2e6,
        'its bytes are free',
        REMOVED_MS,
      );
      t.equal(shown(), 2);
      t.equal(await sumOf(two, 'third'), sums[1], 'the other is as it was');
    });

    await t.test('pulled again it is lazy again', async (t) => {
      await containerd.pull(one);
      t.match(await cluster.status(one), / {2}lazy\n/);
      t.equal(await sumOf(one, 'fourth'), sums[0]);
    });
  },
);
