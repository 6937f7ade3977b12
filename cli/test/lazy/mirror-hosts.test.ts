import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { applyChanges } from '../../src/lazy/changed-files.ts';
import { plannedMirrors } from '../../src/lazy/mirror-hosts.ts';
import { isLazyConfig } from '../../src/lazy/node-facts.ts';
import { hostsDirs, namesHostsDir, plannedHosts, restoreHosts } from '../../src/lazy/registry-hosts.ts';

const AGENT = 'http://127.0.0.1:17000';
const PLAIN = { agent: AGENT, isLazy: false };
const UPSTREAMS = [
  { url: 'https://harbor.example:8443/path', hosts: ['registry.example', 'plainname'] },
  { url: 'https://registry-1.docker.io', hosts: ['index.docker.io'] },
  { url: null, hosts: ['local.example'] },
];

t.test('each registry of the cluster gets the agent in front, and is its own way out', async (t) => {
  const dir = t.testdir();
  const { changes, warnings } = await plannedMirrors([dir], PLAIN, UPSTREAMS);
  t.same(warnings, []);
  t.same(
    changes.map(({ path }) => path),
    ['harbor.example:8443', 'registry.example', 'docker.io'].map((name) => join(dir, name, 'hosts.toml')),
  );
  await applyChanges(changes);
  const text = readFileSync(changes[0]!.path, 'utf8');
  t.match(text, /^# Written by "sepia configure containerd"/);
  t.match(text, 'server = "https://harbor.example:8443/path"\n[host."http://127.0.0.1:17000"]\n');
  t.match(text, 'capabilities = ["pull", "resolve"]\n');
  t.match(readFileSync(changes[2]!.path, 'utf8'), 'server = "https://registry-1.docker.io"\n');
  t.same((await plannedMirrors([dir], PLAIN, UPSTREAMS)).changes, [], 'a second time there is nothing to do');
  t.equal((await restoreHosts([dir])).length, 3);
  for (const { path } of changes) t.notOk(existsSync(path));
});

t.test('what is there stays; --lazy after it closes the way out, and both are taken back', async (t) => {
  const dir = t.testdir({ 'registry.example': { 'hosts.toml': '[host."https://mirror.example"]\n' } });
  const { changes, warnings } = await plannedMirrors([dir], PLAIN, UPSTREAMS.slice(0, 1));
  t.match(warnings, [/registry\.example\/hosts\.toml: is there already and does not name/]);
  t.equal(changes.length, 1);
  await applyChanges(changes);
  const lazy = await plannedHosts([dir], AGENT);
  await applyChanges(lazy.changes);
  const { path } = changes[0]!;
  t.match(readFileSync(path, 'utf8'), `server = "${AGENT}"\n`);
  await restoreHosts([dir]);
  t.equal(existsSync(path), false, 'what was ours from the beginning goes as a whole');
  t.equal(
    readFileSync(join(dir, 'registry.example/hosts.toml'), 'utf8'),
    '[host."https://mirror.example"]\n',
  );
});

t.test('a registry is looked for where containerd does: host_port_ first, then host:port', async (t) => {
  const dir = t.testdir({ 'harbor.example_8443_': {}, 'harbor.example:8443': {} });
  const { changes } = await plannedMirrors([dir], PLAIN, UPSTREAMS.slice(0, 1));
  t.equal(changes[0]!.path, join(dir, 'harbor.example_8443_', 'hosts.toml'));
  await applyChanges(changes);
  t.same(await plannedMirrors([dir], PLAIN, UPSTREAMS.slice(0, 1)), { changes: [], warnings: [] });
  const slashed = t.testdir({ 'harbor.example_8443_': {} });
  const [first] = (await plannedMirrors([`${slashed}/`], PLAIN, UPSTREAMS.slice(0, 1))).changes;
  t.equal(
    first!.path,
    join(slashed, 'harbor.example_8443_', 'hosts.toml'),
    'a slash at the end says nothing',
  );
  const other = () => ({ 'hosts.toml': '[host."https://mirror.example"]\n' });
  const taken = t.testdir({ 'harbor.example_8443_': other(), 'registry.example_80_': other() });
  const { changes: left, warnings } = await plannedMirrors([taken], PLAIN, UPSTREAMS.slice(0, 1));
  t.match(warnings, [/harbor\.example_8443_\/hosts\.toml: is there already and does not name/]);
  t.same(
    left.map(({ path }) => path),
    [join(taken, 'registry.example', 'hosts.toml')],
    'that of another port is no concern of it',
  );
});

t.test(
  'certificates that lie there for the registry are named, wherever containerd found them',
  async (t) => {
    const certs = { 'ca.crt': '', 'b.cert': '', 'b.key': '', 'lone.cert': '', 'lone.key.old': '' };
    const root = t.testdir({
      own: { 'harbor.example:8443': certs },
      docker: { 'registry.example': { 'ca.crt': '' } },
    });
    const dirs = [join(root, 'own'), join(root, 'docker')] as const;
    const { changes } = await plannedMirrors(dirs, PLAIN, UPSTREAMS.slice(0, 1));
    const [harbor, registry] = changes;
    const own = join(dirs[0], 'harbor.example:8443');
    t.equal(harbor!.path, join(own, 'hosts.toml'));
    t.equal(
      harbor!.after.slice(harbor!.after.indexOf('server')),
      [
        'server = "https://harbor.example:8443/path"',
        `ca = ["${own}/ca.crt"]`,
        `client = [["${own}/b.cert", "${own}/b.key"]]`,
        `[host."${AGENT}"]`,
        '  capabilities = ["pull", "resolve"]\n',
      ].join('\n'),
    );
    t.equal(
      registry!.path,
      join(dirs[0], 'registry.example', 'hosts.toml'),
      'what is not ours is not written to',
    );
    t.match(registry!.after, `ca = ["${join(dirs[1], 'registry.example', 'ca.crt')}"]\n`);
    const lazy = await plannedMirrors(dirs, { agent: AGENT, isLazy: true }, UPSTREAMS.slice(0, 1));
    t.notMatch(lazy.changes[0]!.after, 'ca =', 'the agent is not asked by them');
    const plain = await plannedMirrors(dirs, PLAIN, [{ url: 'http://harbor.example:8443', hosts: [] }]);
    t.notMatch(plain.changes[0]!.after, 'ca =', 'nor a registry without TLS');
  },
);

t.test('who has a folder for every other registry sees no further ones', async (t) => {
  const root = t.testdir({
    own: { _default: {} },
    docker: { 'registry.example': { 'hosts.toml': '[host."https://mirror.example"]\n' } },
  });
  const dirs = [join(root, 'own'), join(root, 'docker')] as const;
  const upstream = { url: 'https://registry.example', hosts: [] };
  const { changes, warnings } = await plannedMirrors(dirs, PLAIN, [upstream]);
  t.same(warnings, []);
  t.equal(changes[0]!.path, join(dirs[0], 'registry.example', 'hosts.toml'));
});

t.test('after --lazy there is no way out to begin with', async (t) => {
  const { changes } = await plannedMirrors(
    [t.testdir()],
    { agent: AGENT, isLazy: true },
    UPSTREAMS.slice(0, 1),
  );
  t.match(changes[0]!.after, `server = "${AGENT}"\n[host."${AGENT}"]\n`);
  t.notMatch(changes[0]!.after, 'harbor.example');
  t.ok(isLazyConfig('    layer_content_caches = ["/var/lib/sepia/layer-content"]\n'), 'door 1');
  t.ok(isLazyConfig('      snapshotter = "sepia"\n'), 'door 2');
  for (const dump of [undefined, '  layer_content_caches = []\n', '  snapshotter = "overlayfs"\n'])
    t.notOk(isLazyConfig(dump), String(dump));
});

t.test('whether containerd reads hosts.toml at all', async (t) => {
  t.equal(namesHostsDir('      config_path = ""\n'), false);
  t.equal(namesHostsDir(undefined), false);
  t.equal(namesHostsDir('  config_path = "/etc/containerd/certs.d"\n'), true);
  t.same(hostsDirs('  config_path = "/a:/b"\n'), ['/a', '/b']);
});
