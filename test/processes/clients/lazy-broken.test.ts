import { createHash } from 'node:crypto';
import {
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { systemCode } from '@sepia/base/errors';
import { runHeard } from '@sepia/test-support/clients/heard';
import { must } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { noise } from '../../../shared/lazy/test/support/arbitrary-gzip.ts';
import { LazyNode, type MadeImage, madeLayer, shellLayer, whyNoLazyNode } from './support/lazy-node.ts';

const SEPIA = join(import.meta.dirname, '../../../sepia');
const OPTIONS = { skip: whyNoLazyNode() ?? false, timeout: 900_000 };

const NAMES = ['good', 'index', 'file', 'folder'] as const;

/** Where a link leads; undefined while there is none. */
function shownFrom(link: string): string | undefined {
  try {
    return readlinkSync(link);
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    return undefined;
  }
}

const appOf = (name: string): MadeImage => ({
  repository: `t/${name}`,
  layers: [shellLayer(), madeLayer([{ name: 'app', mode: 0o644, payload: Buffer.from(`I am ${name}\n`) }])],
});

t.test('what is broken of one layer stops no other, and is told', OPTIONS, async (t) => {
  const images = NAMES.map(appOf);
  const node = await LazyNode.start(t, images);
  const { containerd, daemon } = node;
  const run = async (at: number, name: string): Promise<string> => {
    const { stdout, stderr } = await runHeard(containerd, node.images[at]!, name, 'cat /app');
    return stdout === '' ? stderr : stdout;
  };
  for (const [at, name] of NAMES.entries()) {
    await containerd.pull(node.images[at]!);
    t.same(await node.stored(images[at]!), [], 'no layer is stored');
    t.equal(await run(at, `first-${name}`), `I am ${name}\n`);
  }

  const folderOf = (at: number): string => {
    const layers = join(node.dir, 'snapshotter/layers');
    const hex = images[at]!.layers[1]!.diffId.slice(7);
    return join(layers, readdirSync(layers).find((one) => one.startsWith(hex))!);
  };
  const index = readFileSync(node.indexOf(1, 1));
  index[300]! ^= 1;
  writeFileSync(node.indexOf(1, 1), index);
  truncateSync(join(folderOf(2), 'image'), 4096);
  rmSync(folderOf(3), { recursive: true });
  const before = await daemon.pid();
  process.kill(before, 'SIGKILL');
  await until(async () => (await daemon.pid()) !== before, 'the next daemon', 180_000);

  await t.test('the damaged index is refused by name, all else is shown', async (t) => {
    const status = await daemon.status();
    const refused = status.filter(({ state }) => state === 'refused');
    t.match(refused, [{ indexFile: node.indexOf(1, 1), reason: /checksum/ }]);
    t.equal(refused.length, 1);
    t.equal(status.filter(({ state }) => state === 'hidden').length, 0, 'its other layer is another’s too');
    const told = await must(SEPIA, ['lazy', 'status', '--admin', daemon.adminUrl]);
    t.match(
      told.stdout,
      new RegExp(`refused[^\\n]*${node.indexOf(1, 1)}|${node.indexOf(1, 1)}[^\\n]*refused`),
    );
  });

  await t.test('the others run; what is gone of their files is fetched anew', async (t) => {
    for (const at of [0, 2, 3]) t.equal(await run(at, `again-${NAMES[at]}`), `I am ${NAMES[at]}\n`);
  });

  await t.test('the index is mended: the image is lazy again', async (t) => {
    writeFileSync(node.indexOf(1, 1), images[1]!.layers[1]!.index);
    const broken = await daemon.pid();
    process.kill(broken, 'SIGKILL');
    await until(async () => (await daemon.pid()) !== broken, 'the next daemon', 180_000);
    t.equal(await run(1, 'mended'), 'I am index\n');
  });
});

t.test('a byte that is damaged on disk is never read: it is fetched again', OPTIONS, async (t) => {
  const data = noise(1, 3_000_000);
  const right = createHash('sha256').update(data).digest('hex');
  const layer = madeLayer([{ name: 'data', mode: 0o644, payload: data }]);
  const node = await LazyNode.start(t, [{ repository: 't/app', layers: [shellLayer(), layer] }]);
  const { containerd, daemon, dir } = node;
  await containerd.pull(node.images[0]!);
  const sumOf = async (name: string): Promise<string> => {
    const { stdout, stderr } = await runHeard(containerd, node.images[0]!, name, 'sha256sum /data');
    return stdout.split(' ')[0] ?? stderr;
  };
  const hex = layer.diffId.slice(7);
  const layers = join(dir, 'snapshotter/layers');
  const image = join(layers, readdirSync(layers).find((one) => one.startsWith(hex))!, 'image');
  const link = join(dir, 'content/sha256', hex.slice(0, 2), `${hex}.erofs`);
  const mountedFromFile = async (): Promise<void> =>
    void (await until(() => shownFrom(link) === image, 'the layer is whole and right', 180_000));
  const found = async (): Promise<number> => {
    const answer = await fetch(new URL('/metrics', daemon.adminUrl)).catch(() => undefined);
    const line = /^sepia_snapshotter_blocks_damaged_total(?:\{.*\})? (\d+)$/m.exec(
      (await answer?.text()) ?? '',
    );
    return Number(line?.[1] ?? 0);
  };
  const damage = (): void => {
    const bytes = readFileSync(image);
    const at = bytes.indexOf(data.subarray(1_000_000, 1_000_100));
    const fd = openSync(image, 'r+');
    writeSync(fd, Buffer.from([bytes[at]! ^ 1]), 0, 1, at);
    closeSync(fd);
  };
  t.equal(await sumOf('first'), right);
  await mountedFromFile();
  t.equal(await found(), 0);

  damage();
  await until(async () => (await found()) === 1, 'it is found while nobody reads it', 180_000);
  t.equal(await sumOf('mended'), right);
  await mountedFromFile();
  t.equal(await sumOf('again'), right);

  const before = await daemon.pid();
  process.kill(before, 'SIGKILL');
  damage();
  await until(async () => (await daemon.pid()) !== before, 'the next daemon', 180_000);
  await until(
    async () => shownFrom(link) !== image || (await found()) > 0,
    'nothing is mounted unread',
    180_000,
  );
  t.equal(await sumOf('restarted'), right);
  await until(async () => (await found()) === 1, 'the next daemon finds it', 180_000);
  await mountedFromFile();
  t.equal(await sumOf('last'), right);
});

t.test('taking Sepia off a node names the containers that need it; they go on', OPTIONS, async (t) => {
  const late = 'read after all\n';
  const app = madeLayer([{ name: 'late', mode: 0o644, payload: Buffer.from(late) }]);
  const node = await LazyNode.start(t, [{ repository: 't/app', layers: [shellLayer(), app] }]);
  const { containerd, dir } = node;
  await containerd.pull(node.images[0]!);
  const args = ['configure', 'containerd', '--restore', '--config', join(dir, 'none.toml')];
  const restore = async (): Promise<string> =>
    (
      await must(SEPIA, [
        ...[...args, '--content-cache', join(dir, 'content'), '--hosts-dir', join(dir, 'c/certs.d')],
      ])
    ).stdout;
  t.equal(await restore(), 'nothing to take back\n');
  const script = 'trap "cat /late; exit" TERM; for second in $(seq 1 150); do sleep 1; done';
  const running = containerd.run(node.images[0]!, 'web', ['/bin/sh', '-c', script]);
  let told = '';
  await until(
    async () => {
      told = await restore();
      return told.includes('web');
    },
    'it is named',
    120_000,
  );
  t.match(told, /- k8s\.io\/web \(2 layers\)\nstop them/);
  let ended = false;
  const result = running.finally(() => {
    ended = true;
  });
  await until(
    async () => {
      // PID 1 of a container never sees a signal that comes before its trap: it is sent until it is heard.
      if (!ended) await containerd.ctr(['tasks', 'kill', '--signal', 'SIGTERM', 'web']);
      return ended;
    },
    'it ends by the signal',
    120_000,
  );
  const { stdout, stderr } = await result;
  t.equal(stdout, late, stderr);
  t.equal(await restore(), 'nothing to take back\n');
});
