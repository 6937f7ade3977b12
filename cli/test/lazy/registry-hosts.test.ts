import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { applyChanges } from '../../src/lazy/changed-files.ts';
import { hostsDirs, plannedHosts, restoreHosts, throughAgent } from '../../src/lazy/registry-hosts.ts';

const AGENT = 'http://127.0.0.1:17000';
const OURS = `server = "https://registry.example"\n[host."${AGENT}"]\n  capabilities = ["pull", "resolve"]\n`;
const CLOSED = OURS.replace('https://registry.example', AGENT);

t.test('an agent that refuses is not gone round: written, found written, taken back', async (t) => {
  const other = '[host."https://mirror.example"]\n';
  const dir = t.testdir({
    'registry.example': { 'hosts.toml': OURS },
    'other.example': { 'hosts.toml': other },
    'empty.example': {},
  });
  const path = join(dir, 'registry.example', 'hosts.toml');
  const { changes, warnings } = await plannedHosts([dir, join(dir, 'none')], AGENT);
  t.same(changes, [{ path, before: OURS, after: CLOSED }]);
  t.match(warnings, [/other\.example\/hosts\.toml: does not name the agent/, /_default.* is not there/]);
  await applyChanges(changes);
  t.equal(readFileSync(path, 'utf8'), CLOSED);
  t.same((await plannedHosts([dir], AGENT)).changes, [], 'a second time there is nothing to do');
  t.same(await restoreHosts([dir]), [`${path}: as before`]);
  t.equal(readFileSync(path, 'utf8'), OURS);
  t.notOk(existsSync(`${path}.before-sepia`));
  t.same(await restoreHosts([dir]), []);
  await applyChanges(changes);
  writeFileSync(path, `${CLOSED}# more\n`);
  t.match(await restoreHosts([dir]), [/was edited since/]);
  t.equal(readFileSync(path, 'utf8'), `${CLOSED}# more\n`);
});

t.test('files between the folders of registries, or in place of them all, are passed over', async (t) => {
  const dir = t.testdir({ README: 'text', 'z.example': { 'hosts.toml': OURS } });
  const dirs = [join(dir, 'README'), dir];
  const path = join(dir, 'z.example', 'hosts.toml');
  const { changes } = await plannedHosts(dirs, AGENT);
  t.same(changes, [{ path, before: OURS, after: CLOSED }]);
  await applyChanges(changes);
  t.same(await restoreHosts(dirs), [`${path}: as before`]);
});

t.test('only the server changes, where the agent is named at all', async (t) => {
  t.same(throughAgent(`[host."${AGENT}"]\n`, AGENT), {
    after: `server = "${AGENT}"\n[host."${AGENT}"]\n`,
    ways: [],
    names: true,
  });
  const local = `server = 'registry.example'\n[ host . "http://localhost:17000/v2/hub" ]\n  override_path = true\n`;
  t.same(throughAgent(local, AGENT).after.split('\n')[0], 'server = "http://localhost:17000/v2/hub"');
  t.same(throughAgent(CLOSED, AGENT), { after: CLOSED, ways: [], names: true });
  t.match(throughAgent(`${CLOSED}[host."https://far.example"]\n`, AGENT).ways, [
    /names https:\/\/far\.example/,
  ]);
  const other = 'server = "https://registry.example"\n';
  const { after, names } = throughAgent(other, AGENT);
  t.same({ after, names }, { after: other, names: false });
  t.match(throughAgent('', AGENT).ways, [/judged by nobody/]);
  const listed = `client = [\n  ["/cert", "/key"]\n]\nserver = "https://far.example"\n[host."${AGENT}"]\n`;
  const closed = listed.replace('https://far.example', AGENT);
  t.equal(throughAgent(listed, AGENT).after, closed, 'behind a list of lists');
});

t.test('whatever a file says: once is as good as twice, and the rest stays', async (t) => {
  const line = fc.constantFrom(
    ...[
      'server = "https://a.example"',
      `server = "${AGENT}/"`,
      `[host."${AGENT}"]`,
      '[host."https://b.example"]',
    ],
    ...['  capabilities = ["pull"]', '# server = "x"', '', '  server = "in a table"'],
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 10 }), (lines) => {
      const text = lines.join('\n');
      const { after } = throughAgent(text, AGENT);
      t.equal(throughAgent(after, AGENT).after, after);
      const rest = (one: string): string[] => one.split('\n').filter((each) => !/^\s*server/.test(each));
      t.same(rest(after).filter(Boolean), rest(text).filter(Boolean));
      const isNamed = lines.some((each) => each.startsWith(`[host."${AGENT}`));
      if (isNamed) t.match(after, /^\s*server = "http:\/\/127\.0\.0\.1:17000\/?"$/m);
    }),
  );
});

t.test('the folders that containerd says it reads', async (t) => {
  t.same(hostsDirs(undefined), ['/etc/containerd/certs.d']);
  t.same(hostsDirs("  config_path = ''\n"), ['/etc/containerd/certs.d']);
  t.same(hostsDirs('  config_path = \'/a:/b\'\n[x]\n  config_path = "/a"\n'), ['/a', '/b']);
});
