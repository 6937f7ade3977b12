import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { digestOf } from '@sepia/base/digest';
import { type Credentials, fixedCredentials } from '@sepia/upstream/credentials/source';
import t, { type Test } from 'tap';
import { credentialsFor } from '../../src/registry/credentials.ts';
import { RegistryClient } from '../../src/registry/registry-client.ts';
import { FakeRegistry } from '../support/fake-registry.ts';

const ANNA = { username: 'anna', password: 'päss:word' };
const BASIC = `Basic ${Buffer.from('anna:päss:word').toString('base64')}`;

function unauthorized(response: ServerResponse, challenge: string): true {
  response.writeHead(401, { 'www-authenticate': challenge }).end('{"errors":[{"code":"UNAUTHORIZED"}]}');
  return true;
}

async function begin(t: Test, account: Credentials | undefined) {
  const { registry, url, dispatcher } = await FakeRegistry.started(t);
  const credentials = account === undefined ? undefined : fixedCredentials(account);
  return { registry, url, client: new RegistryClient({ dispatcher }, { url, credentials }) };
}

async function pushAndPull(client: RegistryClient): Promise<Buffer> {
  const bytes = randomBytes(1_000);
  const blob = { digest: digestOf(bytes), sizeBytes: bytes.length };
  await client.pushBlob('a/b', { ...blob, open: () => Readable.from([bytes]) });
  const got: Buffer[] = [];
  await client.pullBlob('a/b', blob, (chunk) => void got.push(chunk));
  return Buffer.concat(got);
}

t.test('Basic: sent once the registry asks for it', async (t) => {
  const { registry, client } = await begin(t, ANNA);
  const seen: (string | undefined)[] = [];
  registry.guard = (request, response) => {
    seen.push(request.headers.authorization);
    return request.headers.authorization === BASIC ? false : unauthorized(response, 'Basic realm="x"');
  };
  t.equal((await pushAndPull(client)).length, 1_000);
  t.equal(seen[0], undefined, 'nothing is sent unasked');
  t.ok(seen.slice(1).every((one) => one === BASIC));
});

t.test('Bearer: a token by scope, with the account at the token service', async (t) => {
  const { registry, url, client } = await begin(t, ANNA);
  const scopes: string[] = [];
  registry.guard = (request: IncomingMessage, response) => {
    const asked = new URL(request.url!, url);
    if (asked.pathname === '/token') {
      if (request.headers.authorization !== BASIC) return unauthorized(response, 'Basic realm="token"');
      const scope = asked.searchParams.get('scope') ?? '';
      scopes.push(scope);
      response.end(JSON.stringify({ token: Buffer.from(scope).toString('hex'), expires_in: 300 }));
      return true;
    }
    const needed = `repository:a/b:${request.method === 'GET' || request.method === 'HEAD' ? 'pull' : 'pull,push'}`;
    if (request.headers.authorization === `Bearer ${Buffer.from(needed).toString('hex')}`) return false;
    return unauthorized(response, `Bearer realm="${url}/token",service="s",scope="${needed}"`);
  };
  t.equal((await pushAndPull(client)).length, 1_000);
  t.same([...new Set(scopes)].sort(), ['repository:a/b:pull', 'repository:a/b:pull,push']);
});

const TOKEN = { username: '<token>', password: 'r+f/r=sh', isIdentityToken: true } as const;

t.test('Bearer: an identity token is shown to the token service alone, in a form', async (t) => {
  const { registry, url, client } = await begin(t, TOKEN);
  const forms: URLSearchParams[] = [];
  registry.guard = (request, response, body) => {
    if (request.url === '/token') {
      t.equal(request.method, 'POST');
      t.equal(request.headers['content-type'], 'application/x-www-form-urlencoded');
      t.equal(request.headers.authorization, undefined);
      forms.push(new URLSearchParams(body.toString()));
      response.end('{"access_token":"given"}');
      return true;
    }
    if (request.headers.authorization === 'Bearer given') return false;
    t.equal(request.headers.authorization, undefined);
    return unauthorized(response, `Bearer realm="${url}/token",service="s",scope="repository:a/b:pull"`);
  };
  await client.hasBlob('a/b', digestOf(Buffer.from('x')));
  t.same(
    forms.map((form) => Object.fromEntries(form)),
    [
      {
        grant_type: 'refresh_token',
        client_id: 'sepia',
        service: 's',
        scope: 'repository:a/b:pull',
        refresh_token: 'r+f/r=sh',
      },
    ],
  );
});

t.test('an identity token goes nowhere else', async (t) => {
  const { registry, url, client } = await begin(t, TOKEN);
  const other = new FakeRegistry();
  const elsewhere = await other.start();
  t.teardown(() => other.stop());
  registry.guard = (request, response) => {
    if (request.url !== '/token') return unauthorized(response, `Bearer realm="${url}/token",service="s"`);
    response.writeHead(307, { location: `${elsewhere}/token` }).end();
    return true;
  };
  await t.rejects(client.pullManifest('a/b', 'v1'), { message: /no identity token is shown there/ });
  t.same(other.requests, []);
  const basic = await begin(t, TOKEN);
  const shown: (string | undefined)[] = [];
  basic.registry.guard = (request, response) => {
    shown.push(request.headers.authorization);
    return unauthorized(response, 'Basic realm="x"');
  };
  await t.rejects(basic.client.pullManifest('a/b', 'v1'), { code: 'AUTH_REQUIRED', message: /give --user/ });
  t.ok(
    shown.every((one) => one === undefined),
    'nor as a password',
  );
});

t.test('an identity token that is not taken is told as what it is', async (t) => {
  const { registry, url, client } = await begin(t, TOKEN);
  registry.guard = (request, response) => {
    if (request.url !== '/token') return unauthorized(response, `Bearer realm="${url}/token",service="s"`);
    response.writeHead(400).end('{"error":"unsupported_grant_type"}');
    return true;
  };
  await t.rejects(client.pullManifest('a/b', 'v1'), {
    code: 'AUTH_DENIED',
    message: /the identity token of docker login is not taken/,
  });
});

t.test('credentials do not follow a realm on another host', async (t) => {
  const thief = new FakeRegistry();
  const elsewhere = await thief.start();
  t.teardown(() => thief.stop());
  const { registry, client } = await begin(t, ANNA);
  registry.guard = (_request, response) =>
    unauthorized(
      response,
      `Bearer realm="${elsewhere.replace('127.0.0.1', '127.0.0.2')}/token",service="s",scope="repository:a/b:pull"`,
    );
  await t.rejects(client.pullManifest('a/b', 'v1'), {
    code: 'UPSTREAM_DENIED',
    message: /loopback/,
  });
  t.equal(thief.requests.length, 0);
});

t.test('without an account the error says what to do', async (t) => {
  const { registry, client } = await begin(t, undefined);
  registry.guard = (_request, response) => unauthorized(response, 'Basic realm="x"');
  await t.rejects(client.pullManifest('a/b', 'v1'), { code: 'AUTH_REQUIRED', message: /--user/ });
});

/** The account that is found for a registry. */
async function found(...asked: Parameters<typeof credentialsFor>): Promise<Credentials | undefined> {
  return await credentialsFor(...asked)?.current();
}

t.test('where credentials come from', async (t) => {
  const dir = t.testdir({ password: 'from file\n' });
  const passwordFile = join(dir, 'password');
  t.same(await found('r:1', { user: 'u', passwordFile }, {}), { username: 'u', password: 'from file' });
  t.same(await found('r:1', {}, { SEPIA_USER: 'u', SEPIA_PASSWORD: 'p' }), {
    username: 'u',
    password: 'p',
  });
  t.throws(() => credentialsFor('r:1', { user: 'u' }, {}), {
    code: 'CONFIG_INVALID',
    message: /--password-file/,
  });
  t.throws(() => credentialsFor('r:1', { user: 'u', passwordFile: join(dir, 'none') }, {}), {
    code: 'CONFIG_INVALID',
  });
  const docker = join(dir, 'docker');
  mkdirSync(docker);
  const env = { DOCKER_CONFIG: docker };
  t.equal(await found('r:1', {}, env), undefined, 'no file');
  const auth = Buffer.from('anna:päss:word').toString('base64');
  writeFileSync(join(docker, 'config.json'), JSON.stringify({ auths: { 'r:1': { auth } } }));
  t.same(await found('r:1', {}, env), ANNA);
  t.equal(await found('other:1', {}, env), undefined);
  const keep = (auths: object): void => writeFileSync(join(docker, 'config.json'), JSON.stringify({ auths }));
  for (const key of ['https://r:1', 'http://r:1/', 'https://R:1/v2/', 'r:1/team']) {
    keep({ 'other:1': { auth: 'eDp5' }, [key]: { auth } });
    t.same(await found('r:1', {}, env), ANNA, key);
  }
  keep({ 'r:1/team': { auth: 'eDp5' }, 'r:1': { auth } });
  t.same(await found('r:1', {}, env), ANNA, 'the host alone goes before what is below it');
  keep({ 'r:1': { ...ANNA, auth: '' } });
  t.same(await found('r:1', {}, env), ANNA, 'fields of their own');
  for (const key of ['docker.io', 'https://index.docker.io/v1/', 'registry-1.docker.io']) {
    keep({ [key]: { auth } });
    t.same(await found('https://index.docker.io/v1/', {}, env), ANNA, key);
  }
  keep({ 'r:1': {}, 'r:10': { auth }, r: { auth } });
  t.equal(await found('r:1', {}, env), undefined, 'what a credential store has');
  for (const text of ['no json', 'null', '{"auths":null}', '{"auths":{"r:1":null}}', '{"auths":7}']) {
    writeFileSync(join(docker, 'config.json'), text);
    t.equal(await found('r:1', {}, env), undefined, text);
  }
});
