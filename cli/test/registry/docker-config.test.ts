import { chmodSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CredentialSource } from '@sepia/upstream/credentials/source';
import t, { type Test } from 'tap';
import { fromDockerConfig } from '../../src/registry/docker-config.ts';
import { RegistryClient } from '../../src/registry/registry-client.ts';
import { FakeRegistry } from '../support/fake-registry.ts';

const ANNA = { username: 'anna', password: 'pw' };
const auth = Buffer.from('anna:pw').toString('base64');

/** A config file, and programs beside it that note what they are asked for and print an account named after them. */
function configIn(t: Test, config: object, ...helpers: string[]) {
  const dir = t.testdir({ 'config.json': JSON.stringify(config) });
  for (const name of helpers) {
    const program = join(dir, `docker-credential-${name}`);
    const says = `{"Username":"${name}","Secret":"s"}`;
    writeFileSync(program, `#!/bin/sh\ncat >> "${dir}/asked"\necho '${says}'\n`);
    chmodSync(program, 0o755);
  }
  const env = { PATH: `${dir}:${process.env['PATH']}` };
  return {
    of: (registry: string): CredentialSource | undefined =>
      fromDockerConfig(registry, join(dir, 'config.json'), env),
    asked: (): string[] =>
      existsSync(join(dir, 'asked')) ? readFileSync(join(dir, 'asked'), 'utf8').trim().split('\n') : [],
  };
}

t.test('a helper for this registry goes before a login that is stored, that before the store', async (t) => {
  const config = {
    credsStore: 'store',
    credHelpers: { 'one.example:5000': 'own', 'https://index.docker.io/v1/': 'own' },
    auths: { 'one.example:5000': { auth }, 'two.example': { auth }, 'three.example': {} },
  };
  const { of, asked } = configIn(t, config, 'own', 'store');
  t.match(await of('one.example:5000')?.current(), { username: 'own' });
  t.same(await of('two.example')?.current(), ANNA);
  t.match(await of('three.example')?.current(), { username: 'store' });
  t.match(await of('docker.io')?.current(), { username: 'own' });
  t.same(asked(), ['one.example:5000', 'three.example', 'https://index.docker.io/v1/']);
});

t.test('a helper is run once the registry asks who is there', async (t) => {
  const { registry, url, dispatcher } = await FakeRegistry.started(t);
  const { host } = new URL(url);
  const { of, asked } = configIn(t, { credsStore: 'store' }, 'store');
  const client = new RegistryClient({ dispatcher }, { url, credentials: of(host) });
  await client.pushManifest('a/b', 'v1', Buffer.from('{}'), 'application/json');
  t.same(asked(), [], 'everybody may');
  const shown = new Set<string | undefined>();
  registry.guard = (request, response) => {
    shown.add(request.headers.authorization);
    if (request.headers.authorization !== undefined) return false;
    response.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end();
    return true;
  };
  await client.pullManifest('a/b', 'v1');
  await client.pullManifest('a/b', 'v1');
  t.same(asked(), [host]);
  t.same([...shown], [undefined, `Basic ${Buffer.from('store:s').toString('base64')}`]);
  registry.guard = (_request, response) => {
    response.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end();
    return true;
  };
  await t.rejects(client.pullManifest('a/b', 'v1'), {
    code: 'AUTH_REQUIRED',
    message: /user or password is wrong for store/,
  });
});

t.test('an identity token stands in place of a password', async (t) => {
  const anonymous = Buffer.from('00000000:').toString('base64');
  const { of } = configIn(t, { auths: { 'r.example': { auth: anonymous, identitytoken: 'refresh' } } });
  t.match(await of('r.example')?.current(), { password: 'refresh', isIdentityToken: true });
});

t.test('a helper that is not there is named once an account is needed', async (t) => {
  for (const config of [{ credsStore: 'none' }, { credHelpers: { 'r.example': 'none' } }])
    await t.rejects(async () => await configIn(t, config).of('r.example')?.current(), {
      code: 'CONFIG_INVALID',
      message: /config\.json: cred\w+: there is no program docker-credential-none in PATH/,
    });
  for (const config of [{ credsStore: 7, credHelpers: 'x' }, { credHelpers: { 'r.example': null } }, []])
    t.equal(configIn(t, config).of('r.example'), undefined, JSON.stringify(config));
});
