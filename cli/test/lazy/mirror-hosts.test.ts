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
  const { changes, warnings } = await plannedMirrors(dir, PLAIN, UPSTREAMS);
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
  t.same((await plannedMirrors(dir, PLAIN, UPSTREAMS)).changes, [], 'a second time there is nothing to do');
  t.equal((await restoreHosts([dir])).length, 3);
  for (const { path } of changes) t.notOk(existsSync(path));
});

t.test('what is there stays; --lazy after it closes the way out, and both are taken back', async (t) => {
  const dir = t.testdir({ 'registry.example': { 'hosts.toml': '[host."https://mirror.example"]\n' } });
  const { changes, warnings } = await plannedMirrors(dir, PLAIN, UPSTREAMS.slice(0, 1));
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

t.test('after --lazy there is no way out to begin with', async (t) => {
  const { changes } = await plannedMirrors(
    t.testdir(),
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
