import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t, { type Test } from 'tap';
import { setUp } from '../support/harbor-connect.ts';

/** A proxy's preheat and webhook doors, as they answer to wrong and to right credentials. */
async function fakeProxy(t: Test, answer: (path: string, authorization: string) => [number, object]) {
  const server = createServer((req, res) => {
    const [status, body] = answer(req.url ?? '', req.headers.authorization ?? '');
    req.resume();
    res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const error = (code: string, message: string): object => ({ errors: [{ code, message, detail: {} }] });

t.test('what the proxy refuses is an error before anything is made', async (t) => {
  const { harbor, dir, run } = await setUp(t, ['library']);
  const proxy = await fakeProxy(t, (path, authorization) => {
    if (path.startsWith('/api/')) return [404, error('UNSUPPORTED', 'no such route')];
    if (path.startsWith('/webhooks/'))
      return authorization === 'Hook s3cret' ? [400, {}] : [401, error('UNAUTHORIZED', 'wrong')];
    return authorization === 'Bearer d-s3cret' ? [404, error('UNKNOWN', 'no such job')] : [401, {}];
  });
  const secrets = (driver: string, hook: string): string[] => [
    '--proxy',
    proxy,
    '--driver-secret-file',
    join(dir, driver),
    '--webhook-secret-file',
    join(dir, hook),
  ];
  for (const [flags, option] of [
    [secrets('wrong', 'hook'), /--driver-secret-file: .*refuses preheats with these credentials/],
    [secrets('driver', 'wrong'), /--webhook-secret-file: .*refuses webhooks/],
  ] as const) {
    const { code, err } = await run(...flags);
    t.equal(code, 2);
    t.match(err, option);
    t.same(harbor.changes, []);
  }
  const good = await run(...secrets('driver', 'hook'));
  t.equal(good.code, 0, good.err);
  t.match(good.out, /is connected to http:\/\/127/);
  t.notMatch(good.out, /could not be seen/);
});

t.test('a Harbor in the place of the proxy, and drivers that are off, are named', async (t) => {
  const { harbor, run } = await setUp(t, ['library']);
  const itself = await run('--proxy', harbor.url, '--replicate');
  t.equal(itself.code, 2);
  t.match(itself.err, /is the Harbor itself/);
  const other = await fakeProxy(t, () => [200, { auth_mode: 'db_auth', harbor_version: 'v2.15.0' }]);
  t.match((await run('--proxy', other, '--replicate')).err, /is a Harbor, not a proxy of Sepia/);
  const off = await fakeProxy(t, () => [404, error('UNSUPPORTED', 'preheat drivers are off; set it')]);
  t.match((await run('--proxy', off)).err, /preheat drivers are off/);
  t.same(harbor.changes, []);
});

t.test('a policy whose destination Harbor took for itself is no success', async (t) => {
  const { harbor, run } = await setUp(t, ['library']);
  harbor.takesAsLocal = true;
  const { code, err } = await run('--replicate');
  t.not(code, 0);
  t.match(err, /copies to Local, not to https:\/\/sepia\.example\.com/);
});
