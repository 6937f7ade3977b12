import { createHash } from 'node:crypto';
import { runHeard } from '@sepia/test-support/clients/heard';
import t, { type Test } from 'tap';
import { noise } from '../../../shared/lazy/test/support/arbitrary-gzip.ts';
import { LazyNode, madeLayer, shellLayer, whyNoLazyNode } from './support/lazy-node.ts';

const OPTIONS = { skip: whyNoLazyNode() ?? false, timeout: 900_000 };
const FILE_BYTES = 5 * 1024 * 1024;

/** A node with an image of which `app` was read, and not `late`. */
async function read(t: Test): Promise<{
  node: LazyNode;
  look: (name: string, file: 'app' | 'late') => ReturnType<LazyNode['containerd']['run']>;
  right: Readonly<Record<'app' | 'late', string>>;
}> {
  const files = { app: noise(1, FILE_BYTES), late: noise(2, FILE_BYTES) };
  const part = (name: 'app' | 'late') => ({ name, mode: 0o644, payload: files[name] });
  const layers = [shellLayer(), madeLayer([part('app'), part('late')])];
  const node = await LazyNode.start(t, [{ repository: 't/app', layers }], '10s');
  await node.containerd.pull(node.images[0]!);
  t.same(await node.stored({ repository: 't/app', layers }), [], 'no layer is stored');
  const look = async (name: string, file: string): ReturnType<LazyNode['containerd']['run']> =>
    await runHeard(node.containerd, node.images[0]!, name, `sha256sum /${file}`);
  const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
  return { node, look, right: { app: sha256(files.app), late: sha256(files.late) } };
}

t.test(
  'after a reboot without registry and network: what was read is there, the rest is EIO and heals',
  OPTIONS,
  async (t) => {
    const { node, look, right } = await read(t);
    t.match((await look('first', 'app')).stdout, right.app);
    node.agent.cut();
    await node.reboot('clean');
    const again = await look('again', 'app');
    t.match(again.stdout, right.app, again.stderr);
    const late = await look('late', 'late');
    t.not(late.code, 0);
    t.match(late.stderr, /I\/O error|Input\/output error/i);
    node.agent.heal();
    const healed = await look('healed', 'late');
    t.match(healed.stdout, right.late, healed.stderr);
  },
);

t.test('after a power cut: a layer that was whole is there, others are read anew', OPTIONS, async (t) => {
  const { node, look, right } = await read(t);
  t.match((await look('first', 'app')).stdout, right.app);
  await node.reboot('power-cut');
  const again = await look('again', 'app');
  t.match(again.stdout, right.app, again.stderr);
  t.match((await look('rest', 'late')).stdout, right.late);
  node.agent.cut();
  await node.reboot('power-cut');
  for (const file of ['app', 'late'] as const) {
    const { stdout, stderr } = await look(`whole-${file}`, file);
    t.match(stdout, right[file], stderr);
  }
});
