import {
  closeSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { Containerd24, containerd24, mkfsTakesTar } from '@sepia/test-support/clients/containerd24';
import { LazyDaemon } from '@sepia/test-support/clients/lazy-daemon';
import { must, TESTBED, testbed } from '@sepia/test-support/testbed';
import { MIB, median, round } from './support/figures.ts';
import { startLazyUp } from './support/indexed.ts';
import { startRegistry, startUp } from './support/loopback.ts';
import { IdleMeter, quietMachine } from './support/machine.ts';
import type { BenchRegistry } from './support/registry.ts';
import { type BenchContext, runBench } from './support/run.ts';
import { timed } from './support/timed.ts';

const SEPIA = join(import.meta.dirname, '../../sepia');
const HOST = 'registry.example:5000';
const BLOCK = 4096;
const PULL_MS = 900_000;
/** Reads every file of an image, but not what the kernel and the runtime put there. */
const READ_ALL = 'tar -C / --one-file-system -cf - . | cat >/dev/null; echo read';

interface Bed {
  readonly context: BenchContext;
  readonly registry: BenchRegistry;
}

await runBench({
  id: 'lazy-reads',
  claim:
    'L6: a whole image read once lazily ≤ 1.15 × ordinary; L7: cached reads through FUSE ≥ 1 GB/s and ≥ 20 k/s of 4 KiB, of a complete layer ≥ 0.8 × the plain file; L11: an image without an index ≤ 1.1 × of overlayfs on the same containerd',
  // `from`: 6, 7 or 11, the first that is measured.
  options: { big: 512, reads: 50_000, rounds: 3, from: 6 },
  run: async (context) => {
    if (containerd24() === undefined) throw new Error('run test/support/src/clients/containerd24.sh first');
    const bed: Bed = { context, registry: await startRegistry(context.stops, context.dir) };
    const from = context.number('from');
    if (from <= 6) await makeImage(bed, 'python', [], 'gzip');
    if (from <= 7) await makeImage(bed, 'big', [String(context.number('big'))], 'gzip');
    await makeImage(bed, 'unindexed', [], 'zstd');
    const quiet = await quietMachine();
    const meter = new IdleMeter();
    const whole = from > 6 ? undefined : await wholeImage(bed);
    if (whole !== undefined) context.say(`L6: lazy ÷ ordinary ${whole.ratio}`);
    const cached = from > 7 ? undefined : await cachedReads(bed);
    if (cached !== undefined) context.say(`L7: ${JSON.stringify(cached)}`);
    const unindexed = await withoutIndex(bed);
    context.say(`L11: lazy set-up ÷ overlayfs ${unindexed.ratio}`);
    const facts = { idleBeforePercent: quiet, idlePercent: meter.percent(), mkfsTakesTar: mkfsTakesTar() };
    return { L6: whole, L7: cached, L11: unindexed, ...facts };
  },
});

async function makeImage(
  { context, registry }: Bed,
  name: string,
  more: readonly string[],
  compress: string,
): Promise<void> {
  const kind = name === 'unindexed' ? 'python' : name;
  const oci = join(context.dir, `oci-${name}`);
  await must(`${TESTBED}/make-image.sh`, [kind, oci, ...more], { COMPRESS: compress }, PULL_MS);
  const tag = kind === 'big' ? `big${more[0]}x1` : kind;
  await testbed('make-image.sh', ['push', `${oci}:${tag}`, `127.0.0.1:${registry.port}/t/${name}:1`]);
}

/** A node of its own, cold, with the indexes of an image where one is named. */
async function node(
  { context, registry }: Bed,
  dir: string,
  image?: string,
): Promise<{ containerd: Containerd24; daemon: LazyDaemon; end: () => Promise<void> }> {
  const ends: (() => unknown)[] = [];
  const teardown = (end: () => unknown): void => void ends.unshift(end);
  const counts = ['origins', 'trackers', 'proxies', 'agents'].flatMap((role) => [`--${role}`, '1']);
  const up = await startUp(context.stops, dir, [...counts, '--upstream', `bench=${registry.url},${HOST}`]);
  const agent = up.cluster.agents[0]!.url;
  const indexes = image === undefined ? [] : await indexesOf(context, image);
  const options = { agent, image: `${HOST}/t/${image}`, indexes };
  const daemon = await LazyDaemon.start({ teardown }, dir, options);
  const containerd = await Containerd24.start(join(dir, 'c'), {
    contentCache: join(dir, 'content'),
    mirrors: { [HOST]: agent },
  });
  teardown(() => containerd.stop());
  const end = async (): Promise<void> => {
    for (const one of ends.splice(0)) await one();
  };
  context.stops.push('node', end);
  return { containerd, daemon, end };
}

async function indexesOf({ dir }: BenchContext, image: string): Promise<string[]> {
  const blobs = join(dir, `oci-${image}`, 'blobs/sha256');
  const indexes: string[] = [];
  for (const digest of layersOf(join(dir, `oci-${image}`))) {
    const out = join(dir, `${digest.slice(7)}.lazy`);
    await must(SEPIA, ['lazy', 'index', join(blobs, digest.slice(7)), '--out', out]);
    indexes.push(out);
  }
  return indexes;
}

function layersOf(oci: string): string[] {
  const blob = (digest: string): string => readFileSync(join(oci, 'blobs/sha256', digest.slice(7)), 'utf8');
  const { manifests } = JSON.parse(readFileSync(join(oci, 'index.json'), 'utf8')) as Listed;
  const { layers } = JSON.parse(blob(manifests[0]!.digest)) as { layers: { digest: string }[] };
  return layers.map(({ digest }) => digest);
}

interface Listed {
  readonly manifests: readonly { readonly digest: string }[];
}

/** Pull and run of a command with a snapshotter, in ms; the image is gone after. */
async function start(
  containerd: Containerd24,
  image: string,
  snapshotter: 'erofs' | 'overlayfs',
  command: readonly string[],
): Promise<{ pullMs: number; runMs: number; ms: number }> {
  const reference = `${HOST}/t/${image}:1`;
  const { ctr, address, hostsDir } = containerd.paths;
  const own = ['-a', address, '-n', 'k8s.io'];
  const transfer = snapshotter === 'erofs' ? [] : ['--local'];
  const pull = ['images', 'pull', ...transfer, '--snapshotter', snapshotter, '--hosts-dir', hostsDir];
  const pullMs = await timed(() => must(ctr, [...own, ...pull, reference], {}, PULL_MS));
  const run = ['run', '--snapshotter', snapshotter, '--rm', '--net-host', reference, 'one', ...command];
  const runMs = await timed(() => must(ctr, [...own, ...run], {}, PULL_MS));
  await must(ctr, [...own, 'images', 'rm', '--sync', reference]);
  return { pullMs, runMs, ms: pullMs + runMs };
}

/** L6: pull, start and read all of it, each on a cold node. */
async function wholeImage(bed: Bed): Promise<{ ordinary: unknown; lazy: unknown; ratio: number }> {
  const measured = async (
    snapshotter: 'erofs' | 'overlayfs',
  ): Promise<{ pullMs: number; runMs: number; ms: number }> => {
    const { containerd, end } = await node(
      bed,
      join(bed.context.dir, `l6-${snapshotter}`),
      snapshotter === 'erofs' ? 'python' : undefined,
    );
    await dropCaches();
    const took = await start(containerd, 'python', snapshotter, ['/bin/sh', '-c', READ_ALL]);
    await end();
    return took;
  };
  const ordinary = await measured('overlayfs');
  const lazy = await measured('erofs');
  return { ordinary, lazy, ratio: round(lazy.ms / ordinary.ms, 2) };
}

interface Rates {
  /** MB/s. */
  readonly sequential: number;
  /** Thousands a second. */
  readonly random: number;
}

/** L7: what is in the cache file, through FUSE; once the layer is complete, through its file; the plain file beside it. */
async function cachedReads(bed: Bed): Promise<Record<string, Rates | number>> {
  const { context } = bed;
  const dir = join(context.dir, 'l7');
  const { end } = await node(bed, dir, 'big');
  const [plain, tree] = [join(context.dir, 'plain'), join(dir, 'tree')];
  const { blob, diffId } = topLayer(join(context.dir, 'oci-big'));
  await must('sh', ['-c', `tar -xzOf ${blob} ./data/noise1.bin >${plain}`], {}, PULL_MS);
  mkdirSync(tree);
  const file = join(tree, 'data/noise1.bin');
  const named = (folder: string): string =>
    join(folder, readdirSync(folder).find((one) => one.startsWith(diffId.slice(7)))!);
  const shown = named(join(dir, 'mnt'));
  const cache = join(named(join(dir, 'snapshotter/layers')), 'image');
  const mounted = async <T>(source: string, work: () => Promise<T>): Promise<T> => {
    await mountFile(source, tree);
    try {
      return await work();
    } finally {
      await must('umount', [tree]);
    }
  };
  const reads = context.number('reads');
  await mounted(shown, () => must('sh', ['-c', `cat ${file} >/dev/null`], {}, PULL_MS));
  const fuse = await mounted(shown, () => rates(file, reads, cache));
  const complete = await mounted(cache, () => rates(file, reads));
  const direct = await rates(plain, reads);
  await end();
  return {
    ...{ fuse, complete, plain: direct },
    completeToPlainSequential: round(complete.sequential / direct.sequential, 2),
    completeToPlainRandom: round(complete.random / direct.random, 2),
  };
}

function topLayer(oci: string): { blob: string; diffId: string } {
  const layer = layersOf(oci).at(-1)!;
  const { manifests } = JSON.parse(readFileSync(join(oci, 'index.json'), 'utf8')) as Listed;
  const read = (digest: string): unknown =>
    JSON.parse(readFileSync(join(oci, 'blobs/sha256', digest.slice(7)), 'utf8'));
  const { config } = read(manifests[0]!.digest) as { config: { digest: string } };
  const { rootfs } = read(config.digest) as { rootfs: { diff_ids: string[] } };
  return { blob: join(oci, 'blobs/sha256', layer.slice(7)), diffId: rootfs.diff_ids.at(-1)! };
}

/** As containerd 2.4 does: the file itself, where mount(8) would put a loop device before it. */
async function mountFile(source: string, target: string): Promise<void> {
  const call = process.arch === 'arm64' ? 40 : 165;
  const script = `my ($source, $target) = @ARGV; my $type = "erofs"; syscall(${call}, $source, $target, $type, 1, 0) == 0 or die "mount: $!"`;
  await must('perl', ['-e', script, source, target]);
}

/** Reads of a file that is in no page cache; `under` is read into it first: the file that the other is made of. */
async function rates(file: string, reads: number, under?: string): Promise<Rates> {
  const cold = async (): Promise<void> => {
    await dropCaches();
    if (under !== undefined) await must('sh', ['-c', `cat ${under} >/dev/null`], {}, PULL_MS);
  };
  const bytes = statSync(file).size;
  await cold();
  const sequentialMs = await timed(async () =>
    readAt(
      file,
      MIB,
      Array.from({ length: Math.floor(bytes / MIB) }, (_none, at) => at * MIB),
    ),
  );
  await cold();
  const blocks = Math.floor(bytes / BLOCK);
  const places = Array.from({ length: reads }, () => Math.floor(Math.random() * blocks) * BLOCK);
  const randomMs = await timed(async () => readAt(file, BLOCK, places));
  return {
    sequential: round(bytes / 1000 / Math.max(1, sequentialMs), 0),
    random: round(reads / Math.max(1, randomMs), 1),
  };
}

function readAt(file: string, length: number, places: readonly number[]): void {
  const buffer = Buffer.alloc(length);
  const fd = openSync(file, 'r');
  try {
    for (const at of places) readSync(fd, buffer, 0, length, at);
  } finally {
    closeSync(fd);
  }
}

/** L11: pulled and run by turns, with all of Sepia's lazy set-up and an image that has no index, and by overlayfs. */
async function withoutIndex({
  context,
  registry,
}: Bed): Promise<Record<string, unknown> & { ratio: number }> {
  const dir = join(context.dir, 'l11');
  const { up, content } = await startLazyUp(context.stops, dir, `bench=${registry.url},${HOST}`);
  const agent = up.cluster.agents[0]!.url;
  const containerd = await Containerd24.start(join(dir, 'c'), {
    contentCache: content,
    mirrors: { [HOST]: agent },
  });
  context.stops.push('containerd', () => containerd.stop());
  const run = async (snapshotter: 'erofs' | 'overlayfs'): Promise<number> =>
    (await start(containerd, 'unindexed', snapshotter, ['/bin/true'])).ms;
  // The first of all fills the agent's cache, and is not counted.
  await run('overlayfs');
  const [lazy, ordinary]: [number[], number[]] = [[], []];
  for (let turn = 0; turn < context.number('rounds'); turn++) {
    ordinary.push(await run('overlayfs'));
    lazy.push(await run('erofs'));
  }
  return { lazyMs: lazy, ordinaryMs: ordinary, ratio: round(median(lazy) / median(ordinary), 2) };
}

/** Forgets what this machine has read of its disks. */
async function dropCaches(): Promise<void> {
  await must('sync', []);
  writeFileSync('/proc/sys/vm/drop_caches', '3');
}
