import { fewAtOnce } from '@sepia/base/async/few-at-once';
import { runHeard } from '@sepia/test-support/clients/heard';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import {
  LazyNode,
  type MadeImage,
  madeLayer,
  memoryOf,
  mountsIn,
  shellLayer,
  whyNoLazyNode,
} from './support/lazy-node.ts';

const OPTIONS = { skip: whyNoLazyNode() ?? false, timeout: 900_000 };
const LAYERS = 50;
const FILES = 10_000;
const FOLDERS = 100;
const MOST_MIB = 150;
const CONTAINERS = Number(process.env['CONTAINERS'] ?? 200);
const AT_ONCE = 8;

const textOf = (layer: number, file: number): string => `layer ${layer}, file ${file}\n`;

/** A layer of many small files. */
function crowdedLayer(layer: number): ReturnType<typeof madeLayer> {
  const folder = (file: number): string => `srv/${layer}/${file % FOLDERS}`;
  const made = ['srv/', `srv/${layer}/`, ...Array.from({ length: FOLDERS }, (_none, at) => `${folder(at)}/`)];
  return madeLayer([
    ...made.map((name) => ({ name, typeFlag: '5', mode: 0o755 })),
    ...Array.from({ length: FILES }, (_none, file) => ({
      name: `${folder(file)}/a-module-with-a-name-${file}.js`,
      mode: 0o644,
      payload: Buffer.from(textOf(layer, file)),
    })),
  ]);
}

t.test(`${LAYERS} layers of ${FILES} files: the daemon stays small, each is read`, OPTIONS, async (t) => {
  const layers = [
    shellLayer(),
    ...Array.from({ length: LAYERS - 1 }, (_none, index) => crowdedLayer(index + 1)),
  ];
  const image: MadeImage = { repository: 't/crowded', layers };
  const { containerd, daemon, images } = await LazyNode.start(t, [image]);
  await containerd.pull(images[0]!);
  t.same(await containerd.content().then((all) => all.length), 2, 'manifest and config are stored, no layer');
  const one = (layer: number): string => `/srv/${layer}/7/a-module-with-a-name-${FILES - 93}.js`;
  const paths = Array.from({ length: LAYERS - 1 }, (_none, index) => one(index + 1));
  const cat = `cat ${paths.join(' ')}`;
  const { code, stdout, stderr } = await runHeard(containerd, images[0]!, 'reader', cat);
  t.equal(code, 0, stderr);
  t.equal(stdout, paths.map((_path, index) => textOf(index + 1, FILES - 93)).join(''));
  await staysSmall(t, await daemon.pid(), 'after the pull');

  await t.test('the next daemon opens them all again', async (t) => {
    process.kill(await daemon.pid(), 'SIGKILL');
    const again = await runHeard(containerd, images[0]!, 'again', cat);
    t.equal(again.stdout, stdout, again.stderr);
    await staysSmall(t, await daemon.pid(), 'after its start');
  });
});

/** What a burst took is given back within two looks of the process at itself. */
async function staysSmall(t: Test, pid: number, when: string): Promise<void> {
  const looks: number[] = [];
  const isSmall = (): boolean => looks.push(memoryOf(pid).nowMib) > 0 && looks.at(-1)! <= MOST_MIB;
  try {
    await until(isSmall, `the daemon takes ${MOST_MIB} MiB at most`, 120_000);
  } catch (error) {
    throw new Error(`${(error as Error).message}; ${Math.min(...looks)} MiB ${when}`, { cause: error });
  }
  const { nowMib, mostMib } = memoryOf(pid);
  t.comment(`${when}: ${nowMib} MiB, ${mostMib} at most`);
}

t.test(`${CONTAINERS} containers of one image: all run, nothing stays`, OPTIONS, async (t) => {
  const text = 'it is here\n';
  const app = madeLayer([{ name: 'app', mode: 0o644, payload: Buffer.from(text) }]);
  const { containerd, images, dir } = await LazyNode.start(t, [
    { repository: 't/small', layers: [shellLayer(), app] },
  ]);
  await containerd.pull(images[0]!);
  t.equal((await containerd.content()).length, 2, 'manifest and config are stored, no layer');
  const snapshots = (await containerd.snapshots()).length;
  const before = mountsIn(`${dir}/c/`).length;
  const failed: string[] = [];
  const numbers = Array.from({ length: CONTAINERS }, (_none, index) => index);
  await fewAtOnce(numbers, AT_ONCE, async (number) => {
    const { code, stdout, stderr } = await runHeard(containerd, images[0]!, `c${number}`, 'cat /app');
    if (code !== 0 || stdout !== text) failed.push(`${number}: ${code} ${stdout} ${stderr}`);
  });
  t.same(failed, [], `${CONTAINERS} ran`);
  t.same((await containerd.holds())['containers'], ['']);
  await until(() => mountsIn(`${dir}/c/`).length <= before, 'their mounts are gone', 60_000);
  t.equal((await containerd.snapshots()).length, snapshots, 'and so are their snapshots');
});
