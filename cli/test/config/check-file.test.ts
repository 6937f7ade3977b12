import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { checkFile } from '../../src/config/check-file.ts';
import { defaultConfig } from '../../src/config/default-config.ts';
import { configKeys } from '../../src/config/keys.ts';
import { roleSchema } from '../../src/config/role-schemas.ts';
import { ROLES, type Role } from '../../src/up/plan.ts';

const KEY = 'ab'.repeat(32);
const MEMBERS = ['origin', 'tracker', 'proxy'].map(
  (role, index) => `  - { id: ${role}-1, role: ${role}, urls: ['http://127.0.0.1:${index + 1}'] }\n`,
);
const DOCUMENT = `version: 1\nmembers:\n${MEMBERS.join('')}upstreams: [{ name: local, mode: none }]\n`;
const MEMBER = [
  'id: tracker-1',
  'data: ./d',
  'cluster-key-file: ./cluster-key',
  'cluster-document: ./cluster-document.yaml',
  "admin-listen: '127.0.0.1:17302'",
  '',
].join('\n');

/** A folder with what printed defaults name. */
function folder(t: Test): string {
  const dir = t.testdir({ 'cluster-document.yaml': DOCUMENT });
  writeFileSync(join(dir, 'cluster-key'), KEY, { mode: 0o600 });
  return dir;
}

/** With the id that the document gives it: a start needs that too. */
async function printed(role: Role): Promise<string> {
  const id = /origin|tracker|proxy/.test(role) ? `id: ${role}-1\n` : '';
  return `${defaultConfig(role, configKeys(await roleSchema(role)))}${id}`;
}

async function checked(t: Test, text: string, name = 's.yaml'): Promise<string> {
  const file = join(folder(t), name);
  writeFileSync(file, text);
  return await checkFile(file, {});
}

t.test('what is printed for a role is taken for its config, with and without its name', async (t) => {
  const dir = folder(t);
  for (const role of ROLES) {
    const file = join(dir, 's.yaml');
    writeFileSync(file, await printed(role));
    const said = `config of ${/^[ao]/.test(role) ? 'an' : 'a'} ${role}`;
    t.equal(await checkFile(file, {}), said);
    t.equal(await checkFile(file, {}, role), said, 'with --role');
  }
  t.equal(await checkFile(join(dir, 'cluster-document.yaml'), {}), 'cluster document');
});

t.test('a key with a typo does not make it the config of another role', async (t) => {
  const typos: readonly (readonly [Role, string])[] = [
    ['proxy', `${MEMBER}listenrs: [{ listen: '127.0.0.1:1' }]\naccounts-file: ./a\n`],
    [
      'agent',
      `${MEMBER}listenrs: [{ listen: '127.0.0.1:1' }]\npeer-listen: ['127.0.0.1:2']\nlazy-wait: 1s\n`,
    ],
    ['origin', `${MEMBER}listen: '127.0.0.1:1'\npeer-listn: ['127.0.0.1:2']\nmax-blob: 1GiB\n`],
    ['accelerator', `${MEMBER}listen: '127.0.0.1:1'\nworkrs: 2\nthreads: 2\n`],
    ['snapshotter', "data: ./d\nadmin-listen: '127.0.0.1:1'\nagnt: http://127.0.0.1:1\nmount: /m\n"],
  ];
  for (const [role, text] of typos)
    await t.rejects(
      checked(t, text),
      {
        code: 'CONFIG_INVALID',
        message: new RegExp(`unknown key.*taken for the config of an? ${role}; --role`),
      },
      role,
    );
});

t.test('what fits two roles says so, unless its name tells', async (t) => {
  const text = `${MEMBER}listen: '127.0.0.1:1'\n`;
  t.match(await checked(t, text), /^config of a tracker \(or an accelerator: --role says whose it is\)$/);
  t.equal(await checked(t, text, 'accelerator.yaml'), 'config of an accelerator');
});

t.test('a file that cannot be read or is no YAML is taken for nothing', async (t) => {
  await t.rejects(checked(t, 'a: [', 's.yaml'), { message: /^(?!.*taken for)/ });
  await t.rejects(checkFile(join(t.testdir(), 'none'), {}), { message: /none: cannot be read \(ENOENT\)$/ });
  const noKey = join(t.testdir({ 's.yaml': await printed('snapshotter') }), 's.yaml');
  writeFileSync(noKey, `${await printed('snapshotter')}\nnode-secret-file: ./none\n`);
  await t.rejects(checkFile(noKey, {}), { message: /^node-secret-file: .*cannot be read/ });
});
