import { Readable } from 'node:stream';
import { digestOf } from '@sepia/base/digest';
import { createDispatcher } from '@sepia/http/sockets';
import { startHttpProxy } from '@sepia/test-support/upstream/http-proxy';
import { fixedCredentials } from '@sepia/upstream/credentials/source';
import t, { type Test } from 'tap';
import { HttpProxies } from '../../src/registry/http-proxies.ts';
import { RegistryClient } from '../../src/registry/registry-client.ts';
import { FakeRegistry } from '../support/fake-registry.ts';

const BYTES = Buffer.from('layer');
const BLOB = { digest: digestOf(BYTES), sizeBytes: BYTES.length, open: () => Readable.from([BYTES]) };

/** A client of `url` in a process with these variables. */
function clientIn(t: Test, env: Readonly<Record<string, string>>, url: string): RegistryClient {
  const dispatcher = createDispatcher();
  const proxies = new HttpProxies(env);
  t.teardown(async () => {
    await dispatcher.destroy();
    await proxies.destroy();
  });
  const credentials = fixedCredentials({ username: 'ci', password: 'secret' });
  return new RegistryClient({ dispatcher, proxies }, { url, credentials });
}

t.test('a registry and its token service are reached by the HTTP proxy of the environment', async (t) => {
  const registry = new FakeRegistry();
  const { host } = new URL(await registry.start());
  t.teardown(() => registry.stop());
  registry.guard = (request, response) => {
    if (request.url!.startsWith('/token')) {
      response.end('{"token":"given"}');
      return true;
    }
    if (request.headers.authorization === 'Bearer given') return false;
    const challenge = 'Bearer realm="http://auth.registry.example/token",service="s"';
    response.writeHead(401, { 'www-authenticate': challenge }).end();
    return true;
  };
  const proxy = await startHttpProxy(t, undefined, () => host);
  const client = clientIn(t, { HTTP_PROXY: proxy.url }, 'http://registry.example');
  t.equal(await client.pushBlob('a/b', BLOB), true);
  const got: Buffer[] = [];
  await client.pullBlob('a/b', BLOB, (chunk) => void got.push(chunk));
  t.ok(BYTES.equals(Buffer.concat(got)));
  t.same([...new Set(proxy.targets)], ['registry.example:80', 'auth.registry.example:80']);
});

t.test('an HTTP proxy is told the account in its address', async (t) => {
  const registry = new FakeRegistry();
  const { host } = new URL(await registry.start());
  t.teardown(() => registry.stop());
  const proxy = await startHttpProxy(
    t,
    () => 'anna:pw',
    () => host,
  );
  const env = { http_proxy: proxy.url.replace('//', '//anna:pw@') };
  t.equal(await clientIn(t, env, 'http://registry.example').pushBlob('a/b', BLOB), true);
  await t.rejects(clientIn(t, { http_proxy: proxy.url }, 'http://registry.example').pushBlob('a/b', BLOB), {
    code: 'REGISTRY_DOWN',
    message: /^http:\/\/registry\.example does not answer \(.*407/,
  });
});

t.test('this machine and what NO_PROXY names are reached straight', async (t) => {
  const registry = new FakeRegistry();
  const url = await registry.start();
  t.teardown(() => registry.stop());
  const proxy = await startHttpProxy(t);
  t.equal(await clientIn(t, { HTTP_PROXY: proxy.url }, url).pushBlob('a/b', BLOB), true);
  t.same(proxy.targets, []);
  const member = new HttpProxies({ HTTP_PROXY: proxy.url }, 'http://agent.example:5000/');
  t.equal(member.addressFor(new URL('http://agent.example:5000/v2/')), undefined, 'as is a member');
  t.ok(member.addressFor(new URL('http://agent.example/v2/')), 'but not where it leads to');
  const named = new HttpProxies({ HTTPS_PROXY: proxy.url, NO_PROXY: 'registry.example' });
  t.equal(named.addressFor(new URL('https://registry.example')), undefined);
  t.equal(named.addressFor(new URL('http://other.example')), undefined, 'of another scheme');
  t.same(named.addressFor(new URL('https://other.example')), {
    url: `${proxy.url}/`,
    authorization: undefined,
  });
});

t.test('a variable that is no HTTP proxy is told where it would count', async (t) => {
  const registry = new FakeRegistry();
  const url = await registry.start();
  t.teardown(() => registry.stop());
  const env = { HTTP_PROXY: 'socks5://127.0.0.1:1080' };
  t.equal(await clientIn(t, env, url).pushBlob('a/b', BLOB), true);
  await t.rejects(clientIn(t, env, 'http://registry.example').pushBlob('a/b', BLOB), {
    code: 'CONFIG_INVALID',
    message: /^HTTP_PROXY is no HTTP proxy .* name registry\.example in NO_PROXY/,
  });
  const unread = new HttpProxies({ HTTPS_PROXY: 'http://u:50%off@proxy.example' });
  t.throws(() => unread.addressFor(new URL('https://registry.example')), {
    code: 'CONFIG_INVALID',
    message: /^HTTPS_PROXY is no HTTP proxy/,
  });
});

t.test('each scheme has the account of its own variable, also at one proxy', async (t) => {
  const proxies = new HttpProxies({
    HTTP_PROXY: 'http://a:1@proxy.example',
    HTTPS_PROXY: 'http://b:2@proxy.example',
  });
  t.teardown(() => proxies.destroy());
  const plain = proxies.socketsFor(new URL('http://registry.example'));
  t.not(plain, proxies.socketsFor(new URL('https://registry.example')));
  t.equal(plain, proxies.socketsFor(new URL('http://other.example')));
});
