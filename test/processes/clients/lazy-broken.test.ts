import { readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { must } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { LazyNode, type MadeImage, madeLayer, shellLayer, whyNoLazyNode } from './support/lazy-node.ts';

const SEPIA = join(import.meta.dirname, '../../../sepia');
const OPTIONS = { skip: whyNoLazyNode() ?? false, timeout: 900_000 };

const NAMES = ['good', 'index', 'file', 'folder'] as const;

const appOf = (name: string): MadeImage => ({
  repository: `t/${name}`,
  layers: [shellLayer(), madeLayer([{ name: 'app', mode: 0o644, payload: Buffer.from(`I am ${name}\n`) }])],
});

t.test('what is broken of one layer stops no other, and is told', OPTIONS, async (t) => {
  const images = NAMES.map(appOf);
  const node = await LazyNode.start(t, images);
  const { containerd, daemon } = node;
  const run = async (at: number, name: string): Promise<string> => {
    const { stdout, stderr } = await containerd.run(node.images[at]!, name, ['/bin/cat', '/app']);
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
  t.match(await containerd.ctr(['tasks', 'kill', '--signal', 'SIGTERM', 'web']), { code: 0 });
  const { stdout, stderr } = await running;
  t.equal(stdout, late, stderr);
  t.equal(await restore(), 'nothing to take back\n');
});
