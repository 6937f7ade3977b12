import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { checkOverrideNames, laidOver, overridesOf } from '../../src/up/overrides.ts';

t.test('sections are merged key by key, everything else is taken whole', async (t) => {
  const base = { log: { level: 'info' }, listeners: [{ listen: 'a' }], cache: { budget: '50GiB' } };
  const over = { log: { level: 'debug' }, 'accounts-file': '../accounts', cache: { high: 0.9 } };
  t.same(laidOver(base, over), {
    log: { level: 'debug' },
    listeners: [{ listen: 'a' }],
    cache: { budget: '50GiB', high: 0.9 },
    'accounts-file': '../accounts',
  });
  t.same(base.log, { level: 'info' }, 'what is given stays as it is');
});

t.test('overrides/ROLE.yaml: absent, empty, wrong', async (t) => {
  const root = t.testdir();
  t.same(overridesOf(root, 'proxy'), {});
  mkdirSync(join(root, 'overrides'));
  const write = (text: string): void => writeFileSync(join(root, 'overrides', 'proxy.yaml'), text);
  write('');
  t.same(overridesOf(root, 'proxy'), {});
  write('accounts-file: ../accounts\n');
  t.same(overridesOf(root, 'proxy'), { 'accounts-file': '../accounts' });
  t.same(overridesOf(root, 'agent'), {}, 'of another role');
  for (const [text, message] of [
    ['- a\n', /proxy\.yaml: holds no keys; write lines of the form KEY: VALUE/],
    ['a: [', /proxy\.yaml: line 1, key a: /],
    ['log:\n\tlevel: info\n', /proxy\.yaml: line 2, key level: a tab stands before it/],
    ['listen: 127.0.0.1:1\n', /listen: is decided by/],
  ] as const) {
    write(text);
    t.throws(() => overridesOf(root, 'proxy'), { code: 'CONFIG_INVALID', message });
  }
  mkdirSync(join(root, 'overrides', 'agent.yaml'));
  const message = /agent\.yaml: cannot be read \(EISDIR\)/;
  t.throws(() => overridesOf(root, 'agent'), { code: 'CONFIG_INVALID', message });
});

t.test('a file that no role reads is named; what editors leave is not', async (t) => {
  const root = t.testdir();
  checkOverrideNames(root);
  mkdirSync(join(root, 'overrides'));
  for (const name of ['agent.yaml', 'agent.yaml~', '.agent.yaml.swp', 'accounts', '.x.yaml'])
    writeFileSync(join(root, 'overrides', name), '');
  checkOverrideNames(root);
  for (const name of ['agnet.yaml', 'agent-1.yaml', 'proxy.yml']) {
    const file = join(root, 'overrides', name);
    writeFileSync(file, '');
    t.throws(() => checkOverrideNames(root), {
      code: 'CONFIG_INVALID',
      message: `${file}: is read by nobody; a file there is named ROLE.yaml, of origin, tracker, proxy`,
    });
    rmSync(file);
  }
});
