import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { applyChanges, isLeft } from '../../src/lazy/changed-files.ts';
import { plannedChanges, restore } from '../../src/lazy/configure-containerd.ts';
import { withImport } from '../../src/lazy/containerd-toml.ts';

const CONFIG = `# ours\nversion = 3\n\n[plugins.'io.containerd.cri.v1.images']\n  max_concurrent_downloads = 7\n`;
const PATTERN = '/etc/containerd/conf.d/*.toml';

t.test('written, found written, taken back byte for byte', async (t) => {
  const dir = t.testdir({ 'config.toml': CONFIG });
  const files = { config: join(dir, 'config.toml'), contentCache: '/var/lib/sepia/layer-content' };
  const changes = await plannedChanges(files);
  t.equal(readFileSync(files.config, 'utf8'), CONFIG, 'planning writes nothing');
  await applyChanges(changes);
  const ours = readFileSync(join(dir, 'conf.d/sepia-lazy.toml'), 'utf8');
  t.match(ours, /layer_content_caches = \['\/var\/lib\/sepia\/layer-content'\]/);
  t.match(ours, /snapshotter = 'erofs'/);
  t.equal(
    readFileSync(files.config, 'utf8'),
    CONFIG.replace('version = 3\n', `version = 3\nimports = ['${dir}/conf.d/*.toml']\n`),
  );
  t.same(await plannedChanges(files), [], 'a second time there is nothing to do');
  await applyChanges(await plannedChanges({ ...files, contentCache: '/other' }));
  t.equal((await restore(files)).length, 2);
  t.equal(readFileSync(files.config, 'utf8'), CONFIG);
  t.notOk(existsSync(join(dir, 'conf.d/sepia-lazy.toml')));
  t.notOk(existsSync(`${files.config}.before-sepia`));
  t.same(await restore(files), []);
});

t.test('without a config only the file beside it is written', async (t) => {
  const dir = t.testdir();
  const files = { config: join(dir, 'config.toml'), contentCache: '/c' };
  const changes = await plannedChanges(files);
  t.same(
    changes.map((one) => one.path),
    [join(dir, 'conf.d/sepia-lazy.toml')],
  );
  await applyChanges(changes);
  await restore(files);
  t.notOk(existsSync(files.config));
});

t.test(
  'a config that was edited since keeps its edits; a file that is not ours is not touched',
  async (t) => {
    const dir = t.testdir({ 'config.toml': CONFIG, 'conf.d': {} });
    const files = { config: join(dir, 'config.toml'), contentCache: '/c' };
    await applyChanges(await plannedChanges(files));
    const edited = `${readFileSync(files.config, 'utf8')}# more\n`;
    writeFileSync(files.config, edited);
    const told = await restore(files);
    t.match(told.at(-1), /was edited since/);
    t.same(told.map(isLeft).filter(Boolean), [true], 'the command ends with 1');
    t.equal(readFileSync(files.config, 'utf8'), edited);
    writeFileSync(join(dir, 'conf.d/sepia-lazy.toml'), 'version = 3\n');
    await t.rejects(plannedChanges(files), { code: 'CONFIG_INVALID', message: /is not ours/ });
  },
);

t.test('imports: only that key of the top level is touched', async (t) => {
  t.equal(withImport('', PATTERN), `imports = ['${PATTERN}']\n`);
  t.equal(
    withImport("imports = []\n[a]\nimports = ['x']", PATTERN),
    `imports = ['${PATTERN}']\n[a]\nimports = ['x']`,
  );
  t.equal(
    withImport('version = 2\nimports = ["/a", ] # note\n', PATTERN),
    `version = 2\nimports = ["/a", '${PATTERN}'] # note\n`,
  );
  t.equal(withImport(`imports = ["${PATTERN}"]`, PATTERN), `imports = ["${PATTERN}"]`);
  t.equal(withImport("[a]\nimports = ['x']", PATTERN), `imports = ['${PATTERN}']\n[a]\nimports = ['x']`);
  const nested = 'a = [\n  ["x"]\n]\nb = """\n[c]\nimports = ["no"]\n"""\nimports = ["/a"]\n[d]\n';
  t.equal(
    withImport(nested, PATTERN),
    nested.replace('["/a"]', `["/a", '${PATTERN}']`),
    'behind what looks like a table and is a part of a list, or of a string',
  );
  t.throws(() => withImport('imports = [\n  "a"\n]', PATTERN), { code: 'CONFIG_INVALID' });
  t.throws(() => withImport('', "/it's"), { code: 'CONFIG_INVALID' });
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom('version = 3', '# x', '[a]', 'b = 1', 'imports = ["/z"]', '')),
      (lines) => {
        const config = lines.join('\n');
        const once = withImport(config, PATTERN);
        t.equal(withImport(once, PATTERN), once, 'idempotent');
        const rest = (text: string): string =>
          text
            .split('\n')
            .filter((line) => !line.includes('imports'))
            .join('\n');
        t.equal(rest(once).replace(/^\n/, ''), rest(config).replace(/^\n/, ''), 'all else stays');
      },
    ),
  );
});
