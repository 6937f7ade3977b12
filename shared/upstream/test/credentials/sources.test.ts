import type { ChildProcess } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { chmodSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { silentLogger } from '@sepia/base/log';
import t, { type Test } from 'tap';
import { CredentialHelper } from '../../src/credentials/credential-helper.ts';
import { expiryOfSecret } from '../../src/credentials/expiry.ts';
import { PasswordFile } from '../../src/credentials/password-file.ts';

const log = silentLogger();

t.test('a password file is read again whatever way it changes', async (t) => {
  const dir = t.testdir({ first: 'one\n', second: 'two\r\n' });
  const file = join(dir, 'password');
  symlinkSync('first', file);
  const source = new PasswordFile({ log }, { username: 'robot', file, key: 'credentials.x.password-file' });
  t.same(await source.current(), { username: 'robot', password: 'one' });
  writeFileSync(join(dir, 'first'), 'three\n');
  t.equal((await source.current()).password, 'three', 'written in place');
  symlinkSync('second', join(dir, 'next'));
  renameSync(join(dir, 'next'), file);
  t.equal((await source.current()).password, 'two', 'another target of the link, as Kubernetes does it');
  writeFileSync(file, '');
  t.equal((await source.current()).password, 'two', 'empty for a moment');
  rmSync(file);
  t.equal((await source.current()).password, 'two', 'gone for a moment');
  writeFileSync(file, 'four');
  t.equal((await source.current()).password, 'four');
  t.throws(
    () =>
      new PasswordFile(
        { log },
        { username: 'u', file: join(dir, 'none'), key: 'credentials.y.password-file' },
      ),
    { code: 'CONFIG_INVALID', message: /credentials\.y\.password-file: .*ENOENT/ },
  );
  writeFileSync(file, ' \n');
  const empty = { username: 'u', file, key: 'credentials.z.password-file' };
  t.throws(() => new PasswordFile({ log }, empty), { code: 'CONFIG_INVALID', message: /z.*is empty/ });
});

t.test('secrets that say when they end', async (t) => {
  const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  t.equal(expiryOfSecret(`${encode({ alg: 'x' })}.${encode({ exp: 1_700_000_000 })}.sig`), 1_700_000_000_000);
  t.equal(expiryOfSecret(encode({ payload: 'x', expiration: 1_700_000_001 })), 1_700_000_001_000, 'ECR');
  for (const secret of [
    '',
    'plain',
    'a.b.c',
    'p@ss.wo.rd',
    encode(null),
    encode({ exp: 'soon' }),
    'x'.repeat(70_000),
  ])
    t.equal(expiryOfSecret(secret), undefined, secret.slice(0, 20));
});

/** A helper that notes its calls and prints what `says` holds. */
function helperIn(t: Test, says: string): { dir: string; calls: () => string[]; env: { PATH: string } } {
  const dir = t.testdir({ says });
  const script = `#!/bin/sh
{ printf '%s ' "$1"; cat; } >> "${dir}/calls"
cat "${dir}/says"
[ ! -e "${dir}/fail" ] || exit 1
`;
  writeFileSync(join(dir, 'docker-credential-test'), script);
  chmodSync(join(dir, 'docker-credential-test'), 0o755);
  const calls = (): string[] => readFileSync(join(dir, 'calls'), 'utf8').trim().split('\n');
  return { dir, calls, env: { PATH: `${dir}:${process.env['PATH']}` } };
}

const NAMED = { name: 'test', server: 'registry.example', key: 'credentials.x.helper' };

t.test('a credential helper is one process a lookup, kept until its end', async (t) => {
  let nowMs = 1_000_000;
  const dateMs = (): number => nowMs + 5_000_000;
  const { dir, calls, env } = helperIn(t, '{"ServerURL":"x","Username":"AWS","Secret":"s1"}');
  const helper = new CredentialHelper({ log, nowMs: () => nowMs, dateMs, env }, NAMED);
  const found = await Promise.all(Array.from({ length: 5 }, () => helper.current()));
  t.same(new Set(found.map((one) => one?.password)), new Set(['s1']));
  t.same(calls(), ['get registry.example'], 'asked once for all that wait');
  writeFileSync(join(dir, 'says'), '{"Username":"AWS","Secret":"s2"}');
  t.equal((await helper.current())?.password, 's1', 'kept');
  nowMs += 6 * 60_000;
  t.equal((await helper.current())?.password, 's2', 'asked again');
  helper.refused({ username: 'AWS', password: 'another' });
  t.equal(calls().length, 2);
  helper.refused({ username: 'AWS', password: 's2' });
  const secret = Buffer.from(JSON.stringify({ expiration: dateMs() / 1000 + 3_600 })).toString('base64');
  writeFileSync(join(dir, 'says'), JSON.stringify({ Username: 'AWS', Secret: secret }));
  t.equal((await helper.current())?.password, secret, 'asked again after a refusal');
  nowMs += 50 * 60_000;
  t.equal((await helper.current())?.password, secret);
  t.equal(calls().length, 3, 'as long as the secret says');
  nowMs += 8 * 60_000;
  await helper.current();
  t.equal(calls().length, 4, 'renewed before its end');
});

t.test('a helper that fails, knows nothing, or prints something else', async (t) => {
  let nowMs = 0;
  const { dir, calls, env } = helperIn(t, 'credentials not found in native keychain');
  const helper = new CredentialHelper({ log, nowMs: () => nowMs, dateMs: () => nowMs, env }, NAMED);
  writeFileSync(join(dir, 'fail'), '');
  t.equal(await helper.current(), undefined, 'knows nothing');
  nowMs += 3_600_000;
  writeFileSync(join(dir, 'says'), 'expired session; run login again');
  await t.rejects(helper.current(), {
    code: 'BACKEND_DOWN',
    message: /helper test failed .*run login again/,
  });
  await t.rejects(helper.current(), { code: 'BACKEND_DOWN' });
  t.equal(calls().length, 2, 'a failure is remembered for seconds');
  for (const [says, message] of [
    ['{"Username":"u","Secret":"hidden"}', /registry\.example: exit 1$/],
    ['hidden\n'.repeat(100_000), /registry\.example: it printed more than 262144 bytes$/],
  ] as const) {
    nowMs += 6_000;
    writeFileSync(join(dir, 'says'), says);
    await t.rejects(helper.current(), { code: 'BACKEND_DOWN', message }, 'no secret is told');
  }
  nowMs += 6_000;
  rmSync(join(dir, 'fail'));
  for (const says of ['nonsense', '[]', 'null', '{"Username":"u"}']) {
    nowMs += 6_000;
    writeFileSync(join(dir, 'says'), says);
    await t.rejects(helper.current(), { code: 'BACKEND_DOWN' }, says);
  }
  nowMs += 6_000;
  writeFileSync(join(dir, 'says'), '{"Username":"<token>","Secret":"x"}');
  t.same(await helper.current(), { username: '<token>', password: 'x', isIdentityToken: true });
  t.throws(
    () => new CredentialHelper({ log, nowMs: () => 0, dateMs: () => 0, env }, { ...NAMED, name: 'none' }),
    {
      code: 'CONFIG_INVALID',
      message: /docker-credential-none in PATH/,
    },
  );
  t.throws(
    () => new CredentialHelper({ log, nowMs: () => 0, dateMs: () => 0, env }, { ...NAMED, name: '../evil' }),
    {
      code: 'CONFIG_INVALID',
    },
  );
});

t.test('a helper that does not heed that it is to end is killed', async (t) => {
  const { dir, env } = helperIn(t, '');
  // It tells when no signal but the last one ends it.
  writeFileSync(join(dir, 'docker-credential-test'), `#!/bin/sh\ntrap '' TERM\nexec sleep 60\n`);
  const helper = new CredentialHelper(
    { log, nowMs: () => 0, dateMs: () => 0, env },
    { ...NAMED, waitMs: 1_000, killedMs: 60_000 },
  );
  await t.rejects(helper.current(), { code: 'BACKEND_DOWN', message: /no answer within 1000 ms$/ });
});

t.test('a helper that the kernel does not let go is left, and none is started beside it', async (t) => {
  let nowMs = 0;
  const { env } = helperIn(t, '');
  const child = Object.assign(new EventEmitter(), { unref: () => undefined });
  let started = 0;
  const start = (_program: string, _options: object, onEnd: (error: null, stdout: string) => void) => {
    started += 1;
    // Before any timer, however late the machine is.
    if (started > 1) queueMicrotask(() => onEnd(null, '{"Username":"u","Secret":"s"}'));
    return child as unknown as ChildProcess;
  };
  const helper = new CredentialHelper(
    { log, nowMs: () => nowMs, dateMs: () => nowMs, env },
    { ...NAMED, waitMs: 1, killedMs: 1, start },
  );
  const hangs = { code: 'BACKEND_DOWN', message: /the kernel hangs in it/ } as const;
  await t.rejects(Promise.all([helper.current(), helper.current()]), hangs);
  nowMs += 6_000;
  await t.rejects(helper.current(), hangs);
  t.equal(started, 1);
  child.emit('exit', null, 'SIGKILL');
  nowMs += 6_000;
  t.same(await helper.current(), { username: 'u', password: 's' });
});
