import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { StopStack } from '@sepia/base/lifecycle';
import { Containerd16 } from '@sepia/test-support/clients/containerd16';
import { Containerd24, containerd24 } from '@sepia/test-support/clients/containerd24';
import { LazyDaemon } from '@sepia/test-support/clients/lazy-daemon';
import { Stargz, stargzProgram } from '@sepia/test-support/clients/stargz/stargz';
import { must, testbed } from '@sepia/test-support/testbed';
import { round } from './support/figures.ts';
import { startIndexed } from './support/indexed.ts';
import { SlowLink } from './support/link.ts';
import { startRegistry, startUp } from './support/loopback.ts';
import { IdleMeter, quietMachine } from './support/machine.ts';
import type { BenchRegistry } from './support/registry.ts';
import { type BenchContext, runBench } from './support/run.ts';
import type { StartRow } from './support/start-chart.ts';
import { timed, untilFirstLine } from './support/timed.ts';
import { touchedBytes } from './support/touched-pieces.ts';

const SEPIA = join(import.meta.dirname, '../../sepia');
const HOST = 'registry.example:5000';
const MIB = 1024 * 1024;
const PULL_MS = 900_000;
/** Images of the test bed, and a large one that reads a twentieth of itself. */
const IMAGES = ['python', 'node', 'big'] as const;
const MODES = [
  ...(['ordinary', 'ordinary-sepia', 'lazy', 'lazy-profile'] as const),
  ...(['lazy-guessed', 'lazy-nydus', 'lazy-estargz'] as const),
  ...(['stargz', 'stargz-sepia'] as const),
];
/** Images that our own converter makes first, beside the link. */
const CONVERTED: Partial<Record<Mode, string>> = {
  ...{ 'lazy-nydus': 'nydus', 'lazy-estargz': 'estargz' },
  ...{ stargz: 'estargz', 'stargz-sepia': 'estargz' },
};
const STARGZ_LEFT_OUT =
  'eStargz by stargz-snapshotter: run test/support/src/clients/stargz/stargz.sh first (as root)';
const LEFT_OUT = ['Nydus by nydusd: not in this bench (test/judges says how to get it)'];

type Image = (typeof IMAGES)[number];
type Mode = (typeof MODES)[number];

interface Bed {
  readonly context: BenchContext;
  readonly registry: BenchRegistry;
  /** OCI layout of an image. */
  readonly ociOf: (image: Image) => string;
  readonly tagOf: (image: Image) => string;
  readonly bigMb: number;
  /** What the lazy start of an image read, in that order. */
  readonly filesRead: Map<Image, readonly string[]>;
}

await runBench({
  id: 'start',
  claim:
    'L1: an unconverted image is ready ≥ 4 × sooner than by the ordinary pull of the same containerd (5 MB/s + 20 ms) where it reads ≤ 20 % of itself',
  // `from`, `to`: the first mode that is run, and the first that is not; `first`: the first image.
  options: { rate: 5, delay: 20, big: 500, images: IMAGES.length, first: 0, from: 0, to: MODES.length },
  run: async (context) => {
    if (containerd24() === undefined) throw new Error('run test/support/src/clients/containerd24.sh first');
    const hasStargz = stargzProgram() !== undefined;
    const bigMb = context.number('big');
    const images = IMAGES.slice(context.number('first'), context.number('images'));
    const bed: Bed = {
      filesRead: new Map(),
      ...{ context, bigMb, registry: await startRegistry(context.stops, context.dir) },
      ociOf: (image) => join(context.dir, `oci-${image}`),
      tagOf: (image) => (image === 'big' ? `big${bigMb}x1` : image),
    };
    for (const image of images) await make(bed, image);
    const quiet = await quietMachine();
    const meter = new IdleMeter();
    const rows: StartRow[] = [];
    const wanted = MODES.slice(context.number('from'), context.number('to'));
    const modes = wanted.filter((mode) => hasStargz || !isStargz(mode));
    for (const image of images) {
      for (const mode of modes) {
        for (const row of await measure(bed, image, mode)) {
          rows.push(row);
          context.say(`${image}, ${row.mode}: ready after ${row.pullMs + row.createMs + row.runMs} ms`);
        }
      }
    }
    const link = `${context.number('rate')} MB/s, ${context.number('delay')} ms`;
    const leftOut = hasStargz ? LEFT_OUT : [STARGZ_LEFT_OUT, ...LEFT_OUT];
    return { link, rows, leftOut, idleBeforePercent: quiet, idlePercent: meter.percent() };
  },
});

async function make({ registry, ociOf, tagOf, bigMb }: Bed, image: Image): Promise<void> {
  const size = image === 'big' ? [String(bigMb)] : [];
  await testbed('make-image.sh', [image, ociOf(image), ...size]);
  const target = `127.0.0.1:${registry.port}/t/${image}:1`;
  await testbed('make-image.sh', ['push', `${ociOf(image)}:${tagOf(image)}`, target]);
}

/** The image that a mode starts; one that has to be converted is, at the registry. */
async function tagFor({ context, registry }: Bed, image: Image, mode: Mode): Promise<string> {
  const format = CONVERTED[mode];
  if (format === undefined) return '1';
  const name = `127.0.0.1:${registry.port}/t/${image}`;
  const work = ['--work-dir', join(context.dir, 'convert')];
  await must(SEPIA, ['convert', `${name}:1`, `${name}:${format}`, '--to', format, ...work], {}, PULL_MS);
  return format;
}

/** Cold starts in a cluster and behind a link of their own: of a node, then of a second one where the mode has it. */
async function measure(bed: Bed, image: Image, mode: Mode): Promise<StartRow[]> {
  const { context, registry } = bed;
  const dir = join(context.dir, `${image}-${mode}`);
  const stops = new StopStack();
  const link = await SlowLink.start(registry.port, {
    megabytes: context.number('rate'),
    delayMs: context.number('delay'),
  });
  stops.push('link', () => link.stop());
  try {
    const tag = await tagFor(bed, image, mode);
    const rows: StartRow[] = [];
    for await (const node of startNodes(bed, image, mode, { dir, link, stops, tag })) {
      const name = rows.length === 0 ? mode : `${mode}, second node`;
      rows.push({ image, mode: name, ...(await startOn(node, { bed, image, mode, dir, link, stops, tag })) });
      if (mode === 'lazy' && rows.length === 1)
        bed.filesRead.set(image, (await node.daemon?.filesRead()) ?? []);
    }
    return rows;
  } finally {
    await stops.stop();
  }
}

/** Where a start runs. */
interface Scene {
  readonly dir: string;
  readonly link: SlowLink;
  readonly stops: StopStack;
  readonly tag: string;
}

/** One start, with a containerd of its own. */
async function startOn(
  node: Node,
  at: Scene & { readonly bed: Bed; readonly image: Image; readonly mode: Mode },
): Promise<Omit<StartRow, 'image' | 'mode'>> {
  const { bed, image, mode, dir, link, stops, tag } = at;
  const mirror = node.agent ?? `http://127.0.0.1:${link.port}`;
  const place = { mirror, dir: join(dir, `c${node.number}`), stops };
  const daemon = isStargz(mode)
    ? await stargzDaemon(place)
    : await containerdDaemon(mode, { ...place, content: node.content ?? join(dir, 'content') });
  const { ctr, address, snapshotter } = daemon;
  link.resume();
  const own = ['-a', address, '-n', 'k8s.io'];
  const reference = `${HOST}/t/${image}:${tag}`;
  const before = await link.received();
  const pullMs = await timed(() => daemon.pull(reference));
  const how = ['--snapshotter', snapshotter, '--net-host', reference, 'one', ...commandOf(bed, image)];
  // Its `ctr containers create` takes an option of the command for one of its own.
  const isOne = isStargz(mode);
  const create = [...own, 'containers', 'create', ...how];
  const createMs = isOne ? 0 : await timed(() => must(ctr, create));
  const runMs = await untilFirstLine(ctr, [...own, ...(isOne ? ['run', ...how] : ['tasks', 'start', 'one'])]);
  const bytes = (await link.received()) - before;
  const touched = node.touchedBytes?.();
  await must(ctr, [...own, 'containers', 'rm', 'one']);
  const row = { pullMs, createMs, runMs, megabytes: round(bytes / 1e6, 1) };
  return touched === undefined ? row : { ...row, touchedMegabytes: round(touched / 1e6, 1) };
}

/** A containerd, ready to pull. */
interface Daemon {
  readonly ctr: string;
  readonly address: string;
  readonly snapshotter: string;
  readonly pull: (reference: string) => Promise<unknown>;
}

interface Place {
  /** URL where it pulls from. */
  readonly mirror: string;
  /** Short: sockets lie there. */
  readonly dir: string;
  readonly stops: StopStack;
}

/** Containerd 2.4, with the erofs snapshotter for lazy modes. */
async function containerdDaemon(mode: Mode, at: Place & { readonly content: string }): Promise<Daemon> {
  const mirrors = { [HOST]: at.mirror };
  const containerd = await Containerd24.start(at.dir, { contentCache: at.content, mirrors });
  at.stops.push('containerd', () => containerd.stop());
  const { ctr, address, hostsDir } = containerd.paths;
  const isLazy = mode.startsWith('lazy');
  const snapshotter = isLazy ? 'erofs' : 'overlayfs';
  const how = [...(isLazy ? [] : ['--local']), '--snapshotter', snapshotter, '--hosts-dir', hostsDir];
  const pull = ['-a', address, '-n', 'k8s.io', 'images', 'pull', ...how];
  return {
    ...{ ctr, address, snapshotter },
    pull: async (reference) => await must(ctr, [...pull, reference], {}, PULL_MS),
  };
}

/** The machine's containerd with a stargz-snapshotter, which fetches nothing on its own. */
async function stargzDaemon({ mirror, dir, stops }: Place): Promise<Daemon> {
  const stargz = await Stargz.start(`${dir}s`, { [HOST]: new URL(mirror).host });
  stops.push('stargz-snapshotter', () => stargz.stop());
  const containerd = await Containerd16.start(dir, {
    ...{ snapshotsSocket: stargz.socket, snapshotter: 'stargz' },
    mirrors: { [HOST]: mirror },
  });
  stops.push('containerd', () => containerd.stop());
  return {
    ...{ ctr: 'ctr', address: containerd.address, snapshotter: 'stargz' },
    pull: async (reference) => {
      const { code, stderr } = await containerd.tryPull(reference);
      if (code !== 0) throw new Error(`stargz-snapshotter: ${stderr}`);
    },
  };
}

function isStargz(mode: Mode): boolean {
  return mode.startsWith('stargz');
}

/** What a mode needs beside containerd. */
interface Node {
  readonly number: number;
  readonly agent?: string;
  readonly content?: string;
  readonly daemon?: LazyDaemon;
  /** Bytes of the pieces of which the snapshotter holds something. */
  readonly touchedBytes?: () => number;
}

/** Nodes of a cluster of their own, each ready when it is asked for. */
async function* startNodes(bed: Bed, image: Image, mode: Mode, scene: Scene): AsyncGenerator<Node> {
  const { dir, link, stops, tag } = scene;
  if (mode === 'ordinary' || mode === 'stargz') return yield { number: 1 };
  const upstream = `bench=http://127.0.0.1:${link.port},${HOST}`;
  if (mode === 'lazy-guessed' || (CONVERTED[mode] !== undefined && !isStargz(mode))) {
    const layers = await layersAt(bed, image, tag);
    const reference = `${HOST}/t/${image}:${tag}`;
    const cluster = await startIndexed(stops, dir, { reference, layers, upstream });
    return yield { number: 1, agent: cluster.up.cluster.agents[0]!.url, content: cluster.content };
  }
  const counts = ['origins', 'trackers', 'proxies'].flatMap((role) => [`--${role}`, '1']);
  const up = await startUp(stops, dir, [...counts, '--agents', '2', '--upstream', upstream]);
  const nodes = up.cluster.agents.map(({ url }, at) => ({ number: at + 1, agent: url }));
  if (mode === 'ordinary-sepia' || mode === 'stargz-sepia') return yield* nodes;
  const fillFirst = mode === 'lazy-profile' ? bed.filesRead.get(image) : undefined;
  for (const node of nodes) {
    const home = join(dir, `node-${node.number}`);
    mkdirSync(home);
    // A snapshotter that has its indexes and an order begins to fetch: not before the pull, as on a node.
    if (fillFirst !== undefined) link.pause();
    const { daemon, indexes } = await startLazy(bed, image, {
      dir: home,
      agent: node.agent,
      fillFirst,
      stops,
    });
    const touched = (): number => touchedBytes(indexes, join(home, 'snapshotter'));
    // With an order all is filled: what is held was not all touched.
    const measured = fillFirst === undefined ? { touchedBytes: touched } : {};
    yield { ...node, daemon, content: join(home, 'content'), ...measured };
    // The second would have everything from the first one before it is asked for.
    if (fillFirst !== undefined) return;
  }
}

/** The snapshotter of the node, with indexes that were made from the image's files: nothing of it was pulled yet. */
async function startLazy(
  { ociOf }: Bed,
  image: Image,
  node: {
    dir: string;
    agent: string;
    fillFirst: readonly string[] | undefined;
    stops: StopStack;
  },
): Promise<{ daemon: LazyDaemon; indexes: readonly string[] }> {
  const indexes: string[] = [];
  for (const digest of layersOf(ociOf(image))) {
    const out = join(node.dir, `${digest.slice(7)}.lazy`);
    await must(SEPIA, ['lazy', 'index', join(ociOf(image), 'blobs/sha256', digest.slice(7)), '--out', out]);
    indexes.push(out);
  }
  const teardown = (stop: () => unknown): void =>
    node.stops.push('snapshotter', async () => void (await stop()));
  const { agent, fillFirst } = node;
  const first = fillFirst === undefined ? {} : { fillFirst };
  const options = { agent, image: `${HOST}/t/${image}`, indexes, ...first };
  return { daemon: await LazyDaemon.start({ teardown }, node.dir, options), indexes };
}

/** What the large image runs reads a twentieth of it; the others run their own command. */
function commandOf({ bigMb }: Bed, image: Image): string[] {
  if (image !== 'big') return [];
  const count = Math.floor((bigMb * 1e6) / 20 / MIB);
  return ['/bin/sh', '-c', `dd if=/data/noise1.bin of=/tmp/part bs=1048576 count=${count} && echo ready`];
}

/** Layers of an image at the registry. */
async function layersAt({ registry }: Bed, image: Image, tag: string): Promise<string[]> {
  const headers = { accept: 'application/vnd.oci.image.manifest.v1+json' };
  const url = `http://127.0.0.1:${registry.port}/v2/t/${image}/manifests/${tag}`;
  const { layers } = (await (await fetch(url, { headers })).json()) as Manifest;
  return layers.map(({ digest }) => digest);
}

interface Manifest {
  readonly layers: readonly { readonly digest: string }[];
}

function layersOf(oci: string): string[] {
  const { manifests } = JSON.parse(readFileSync(join(oci, 'index.json'), 'utf8')) as Listed;
  const text = readFileSync(join(oci, 'blobs/sha256', manifests[0]!.digest.slice(7)), 'utf8');
  return (JSON.parse(text) as Manifest).layers.map(({ digest }) => digest);
}

interface Listed {
  readonly manifests: readonly { readonly digest: string }[];
}
