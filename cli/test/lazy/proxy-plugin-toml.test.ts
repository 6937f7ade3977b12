import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { applyChanges } from '../../src/lazy/changed-files.ts';
import { plannedProxyPlugin, restore } from '../../src/lazy/configure-containerd.ts';
import { OUR_MARK } from '../../src/lazy/containerd-toml.ts';
import { namesDisk, withSnapshotter } from '../../src/lazy/proxy-plugin-toml.ts';

const OPTIONS = { socket: '/run/sepia/s.sock', containerd: [1, 6] } as const;
/** As Debian 12 installs it. */
const DEBIAN = `version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
`;

t.test('a line of a list of lists begins no table', (t) => {
  const images = `version = 3
[plugins.'io.containerd.cri.v1.images']
  pairs = [
    ["a", "b"],
    ["c"]
  ]
  snapshotter = 'overlayfs'
`;
  const written = withSnapshotter(images, { ...OPTIONS, containerd: [2, 1] });
  t.equal(written.match(/snapshotter = /g)?.length, 1, 'the key is found behind it');
  t.match(written, /\["c"\]\n {2}\]\n {2}snapshotter = 'sepia'\n/);
  t.end();
});

t.test('our snapshotter is added to what is there', async (t) => {
  t.equal(
    withSnapshotter(DEBIAN, OPTIONS),
    `${DEBIAN}
[plugins."io.containerd.grpc.v1.cri".containerd]
  disable_snapshot_annotations = false
  snapshotter = 'sepia'

[proxy_plugins.sepia]
  address = '/run/sepia/s.sock'
  type = 'snapshot'
`,
  );
  const own = `version = 3
[plugins.'io.containerd.cri.v1.images'] # images
  snapshotter = "overlayfs" # the default
  discard = true
[other]
  snapshotter = "overlayfs"`;
  t.equal(
    withSnapshotter(own, { ...OPTIONS, containerd: [2, 1] }),
    `version = 3
[plugins.'io.containerd.cri.v1.images'] # images
  disable_snapshot_annotations = false
  snapshotter = 'sepia'
  discard = true
[other]
  snapshotter = "overlayfs"

[proxy_plugins.sepia]
  address = '/run/sepia/s.sock'
  type = 'snapshot'

[proxy_plugins.sepia.exports]
  enable_remote_snapshot_annotations = 'true'
`,
  );
  // Of containerd's transfer plugin: which snapshotter unpacks for whom is a list of tables.
  const list = `[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]
  platform = 'linux/amd64'
  snapshotter = 'overlayfs'
`;
  const listed = `version = 3
[plugins.'io.containerd.cri.v1.images']
  discard = true
${list}`;
  t.ok(
    withSnapshotter(listed, { ...OPTIONS, containerd: [2, 1] }).startsWith(`version = 3
[plugins.'io.containerd.cri.v1.images']
  disable_snapshot_annotations = false
  snapshotter = 'sepia'
  discard = true
${list}`),
    'keys of a list of tables are of none before it',
  );
  const measured = { ...OPTIONS, data: '/srv/sepia/snapshotter' };
  t.ok(
    withSnapshotter(DEBIAN, measured).endsWith(
      "\n[proxy_plugins.sepia.exports]\n  root = '/srv/sepia/snapshotter'\n",
    ),
    'the kubelet finds the disk',
  );
  t.match(withSnapshotter(own, { ...measured, containerd: [2, 1] }), "  root = '/srv/sepia/snapshotter'\n");
  const again = withSnapshotter(withSnapshotter(DEBIAN, measured), OPTIONS);
  t.ok(namesDisk(again), 'it goes on finding it, and nobody is told that it does not');
  t.notOk(namesDisk(withSnapshotter(DEBIAN, OPTIONS)), 'the root of containerd is another');
  const upgraded = withSnapshotter(DEBIAN, { ...OPTIONS, containerd: [2, 4] });
  for (const table of [
    '[plugins."io.containerd.grpc.v1.cri".containerd]',
    '[plugins."io.containerd.cri.v1.images"]',
  ])
    t.ok(
      upgraded.includes(`\n${table}\n  disable_snapshot_annotations = false\n  snapshotter = 'sepia'\n`),
      `a node that was upgraded: ${table}`,
    );
  t.match(
    withSnapshotter('version = 4\n', { ...OPTIONS, containerd: [2, 4] }),
    /^version = 4\n\n\[plugins\."io\.containerd\.cri\.v1\.images"\]\n/,
  );
  t.ok(withSnapshotter(undefined, OPTIONS).startsWith(`${OUR_MARK}\nversion = 2\n`));
  t.match(withSnapshotter('', { ...OPTIONS, containerd: [2, 0] }), /^version = 3$/m);
  for (const old of ['[plugins]\n', 'version = 1\n', '[a]\nversion = 2\n'])
    t.throws(() => withSnapshotter(old, OPTIONS), { code: 'CONFIG_INVALID', message: /config migrate/ });
  t.throws(() => withSnapshotter(DEBIAN, { ...OPTIONS, socket: "/it's" }), { code: 'CONFIG_INVALID' });
});

t.test('a second time changes nothing; other lines stay as they are', async () => {
  const lines = fc.array(
    fc.constantFrom(
      '[plugins."io.containerd.grpc.v1.cri".containerd]',
      "  [ plugins . 'io.containerd.grpc.v1.cri' . containerd ]",
      '[proxy_plugins.sepia]',
      '[proxy_plugins.other]',
      '    snapshotter = "overlayfs"',
      'snapshotter="sepia"',
      '  type = "snapshot"',
      '# snapshotter = "x"',
      '',
      'list = [\n  ["a"]\n]',
    ),
  );
  fc.assert(
    fc.property(lines, fc.constantFrom(1, 2), (rest, major) => {
      const config = ['version = 2', ...rest].join('\n');
      const options = { ...OPTIONS, containerd: [major, 6] } as const;
      const once = withSnapshotter(config, options);
      if (withSnapshotter(once, options) !== once) return false;
      const others = (text: string): string[] =>
        text.split('\n').filter((line) => /^#|^list|other|\["a"\]/.test(line.trim()));
      return JSON.stringify(others(once)) === JSON.stringify(others(config));
    }),
  );
});

t.test('taken back byte for byte, unless it was edited', async (t) => {
  const dir = t.testdir({ 'config.toml': DEBIAN });
  const files = { config: join(dir, 'config.toml'), contentCache: '/c' };
  await applyChanges(await plannedProxyPlugin(files.config, OPTIONS));
  t.same(await plannedProxyPlugin(files.config, OPTIONS), []);
  await applyChanges(await plannedProxyPlugin(files.config, { ...OPTIONS, socket: '/run/other.sock' }));
  t.match(readFileSync(files.config, 'utf8'), /\/run\/other\.sock/);
  t.match(await restore(files), [/as before/]);
  t.equal(readFileSync(files.config, 'utf8'), DEBIAN);
  t.same(await restore(files), []);
  for (const name of ['.before-sepia', '.sepia-wrote']) t.notOk(existsSync(files.config + name));
  await applyChanges(await plannedProxyPlugin(files.config, OPTIONS));
  writeFileSync(files.config, `${readFileSync(files.config, 'utf8')}# mine\n`);
  t.match(await restore(files), [/was edited since/]);
  t.match(readFileSync(files.config, 'utf8'), /# mine/);
});

t.test('a config that was not there before is taken away again', async (t) => {
  const files = { config: join(t.testdir(), 'config.toml'), contentCache: '/c' };
  await applyChanges(await plannedProxyPlugin(files.config, OPTIONS));
  t.match(await restore(files), [/removed/]);
  t.notOk(existsSync(files.config));
});
