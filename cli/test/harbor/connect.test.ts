import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import t from 'tap';
import { PROXY, setUp } from '../support/harbor-connect.ts';
import { sepia, sepiaWith } from '../support/sepia.ts';

t.test('everything in one go; a second time nothing is doubled', async (t) => {
  const { harbor, dir, run } = await setUp(t);
  const flags = [
    '--drivers',
    'dragonfly',
    'kraken',
    '--webhook-secret-file',
    join(dir, 'hook'),
    '--replicate',
    '--scope',
    'all_peers',
  ];
  const first = await run(...flags);
  t.equal(first.code, 0, first.err);
  t.match(
    harbor.instances.map(({ name, vendor, endpoint, auth_mode }) => [name, vendor, endpoint, auth_mode]),
    [
      ['sepia-dragonfly', 'dragonfly', `${PROXY}/dragonfly`, 'NONE'],
      ['sepia-kraken', 'kraken', `${PROXY}/kraken`, 'NONE'],
    ],
  );
  for (const project of ['library', 'team.a']) {
    const [policy] = harbor.preheats.get(project)!;
    t.equal(policy?.['provider_id'], harbor.instances[0]?.['id'], 'by the first driver');
    t.same(JSON.parse(String(policy?.['filters'])), [
      { type: 'repository', value: '**' },
      { type: 'tag', value: '**' },
    ]);
    t.same(JSON.parse(String(policy?.['trigger'])), { type: 'event_based' });
    t.same(JSON.parse(String(policy?.['extra_attrs'])), { scope: 'all_peers' });
    t.match(harbor.webhooks.get(project), [
      {
        event_types: ['PUSH_ARTIFACT', 'DELETE_ARTIFACT'],
        targets: [
          { address: `${PROXY}/webhooks/harbor`, auth_header: 'Hook s3cret', payload_format: 'CloudEvents' },
        ],
      },
    ]);
  }
  t.match(harbor.registries, [{ name: 'sepia', type: 'docker-registry', url: PROXY }]);
  t.match(harbor.replications, [
    { filters: [{ value: '{library,team.a}/**' }], dest_registry: { id: harbor.registries[0]?.['id'] } },
  ]);
  t.notOk(first.out.includes('s3cret'), 'secrets are masked');
  harbor.calls.length = 0;
  const second = await run(...flags);
  t.equal(second.code, 0, second.err);
  t.same(harbor.changes, [], 'nothing to change');
  t.equal(harbor.instances.length, 2);
});

t.test('what is there under another name or with a slash is brought up to date, not doubled', async (t) => {
  const { harbor, dir, run } = await setUp(t, ['library']);
  harbor.instances.push({
    id: 71,
    name: 'old',
    vendor: 'dragonfly',
    endpoint: `${PROXY}/dragonfly/`,
    enabled: false,
  });
  harbor.registries.push({
    id: 72,
    name: 'by-hand',
    type: 'docker-registry',
    url: `${PROXY}/`,
    insecure: true,
  });
  harbor.webhooks
    .get('library')!
    .push({ id: 73, name: 'mine', enabled: false, targets: [{ address: `${PROXY}/webhooks/harbor` }] });
  const { code, err } = await run('--webhook-secret-file', join(dir, 'hook'));
  t.equal(code, 0, err);
  t.match(harbor.instances, [{ id: 71, name: 'old', endpoint: `${PROXY}/dragonfly`, enabled: true }]);
  t.match(harbor.registries, [{ id: 72, name: 'by-hand', url: PROXY, insecure: false }]);
  t.match(harbor.webhooks.get('library'), [{ id: 73, name: 'mine', enabled: true }]);
  t.equal(harbor.instances.length + harbor.registries.length + harbor.webhooks.get('library')!.length, 3);
});

t.test('a known endpoint is a 500 of Harbor: it is looked for again and taken over', async (t) => {
  const { harbor, run } = await setUp(t, ['library']);
  harbor.instances.push({
    id: 71,
    name: 'other',
    vendor: 'dragonfly',
    endpoint: `${PROXY}/dragonfly`,
    enabled: false,
  });
  harbor.hideInstances = true;
  const { code, err } = await run();
  t.equal(code, 0, err);
  t.match(harbor.instances, [{ id: 71, name: 'other', enabled: true }]);
  t.equal(harbor.instances.length, 1);
});

t.test('a project whose name is of digits alone is meant by its name', async (t) => {
  const { harbor, dir, run } = await setUp(t, ['library', '2048']);
  const { code, err } = await run('--webhook-secret-file', join(dir, 'hook'));
  t.equal(code, 0, err);
  t.equal(harbor.preheats.get('2048')?.length, 1);
  t.equal(harbor.webhooks.get('2048')?.length, 1);
});

t.test(
  'a Harbor that leads elsewhere is told with the address to give, and gets nothing there',
  async (t) => {
    const server = createServer((_req, res) => {
      res.writeHead(308, { location: 'https://harbor.example.com/api/v2.0/projects/library' }).end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    t.teardown(() => {
      server.closeAllConnections();
      server.close();
    });
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const passwordFile = join(t.testdir({ password: 'Harbor12345' }), 'password');
    const words = ['harbor', 'connect', url, '--proxy', PROXY, '--projects', 'library'];
    const { code, err } = await sepia(...words, '--password-file', passwordFile);
    t.not(code, 0);
    t.match(err, `Harbor at ${url} leads to https://harbor.example.com (308): give that address`);
  },
);

t.test('more than a page of instances is read to its end', async (t) => {
  const { harbor, run } = await setUp(t, ['library']);
  for (let at = 0; at < 130; at++)
    harbor.instances.push({ id: 1000 + at, name: `n${at}`, endpoint: `http://h${at}` });
  harbor.instances.push({ id: 7, name: 'late', vendor: 'dragonfly', endpoint: `${PROXY}/dragonfly` });
  const { code, err } = await run();
  t.equal(code, 0, err);
  t.equal(harbor.instances.length, 131);
});

t.test('--dry-run tells every change with its body, masked, and makes none', async (t) => {
  const { harbor, dir, run } = await setUp(t, ['library']);
  const { code, out, err } = await run(
    '--dry-run',
    '--replicate',
    '--webhook-secret-file',
    join(dir, 'hook'),
    '--driver-user',
    'harbor',
    '--driver-secret-file',
    join(dir, 'driver'),
  );
  t.equal(code, 0, err);
  t.same(harbor.changes, []);
  const lines = out.trim().split('\n');
  t.match(
    lines[0],
    /^would POST \/p2p\/preheat\/instances \{"name":"sepia-dragonfly".*"auth_mode":"BASIC","auth_info":\{"harbor":"\*\*\*"\}/,
  );
  t.match(
    lines[1],
    /^would POST \/projects\/library\/preheat\/policies .*"provider_id":"\(id of sepia-dragonfly\)"/,
  );
  t.match(lines[2], /^would POST \/projects\/library\/webhook\/policies .*"auth_header":"\*\*\*"/);
  t.match(lines[3], /^would POST \/registries /);
  t.match(lines[4], /^would POST \/replication\/policies /);
  t.match(lines[5], /nothing was changed/);
  t.notOk(out.includes('s3cret'));
});

t.test('modes of the drivers, as Harbor wants them', async (t) => {
  const { harbor, dir, run } = await setUp(t, ['library']);
  const secret = ['--driver-secret-file', join(dir, 'driver')];
  for (const [flags, mode, info] of [
    [secret, 'OAUTH', { token: 'd-s3cret' }],
    [['--driver-user', 'u', ...secret], 'BASIC', { u: 'd-s3cret' }],
    [['--driver-header', 'X-Sepia', ...secret], 'CUSTOM', { 'X-Sepia': 'd-s3cret' }],
  ] as const) {
    const { code, err } = await run(...flags);
    t.equal(code, 0, err);
    t.match(harbor.instances, [{ auth_mode: mode, auth_info: info }]);
  }
});

t.test('errors name the call, the option or the project', async (t) => {
  const { harbor, dir, run } = await setUp(t, ['library']);
  const base = ['harbor', 'connect', harbor.url, '--projects', 'library'];
  const withoutScheme = await sepiaWith(
    { SEPIA_HARBOR_PASSWORD: 'x' },
    ...base,
    '--proxy',
    'sepia.example.com:17300',
  );
  t.not(withoutScheme.code, 0);
  t.match(withoutScheme.err, /--proxy: "sepia\.example\.com:17300" must begin with http:\/\/ or https:\/\//);
  t.match(
    (await sepiaWith({ SEPIA_HARBOR_PASSWORD: '' }, ...base, '--proxy', PROXY)).err,
    /--password-file FILE or SEPIA_HARBOR_PASSWORD/,
  );
  const denied = await run('--password-file', join(dir, 'wrong'));
  t.not(denied.code, 0);
  t.match(
    denied.err,
    /Harbor answers 401 to GET \/api\/v2\.0\/projects\/library: unauthorized; check user and password/,
  );
  t.match((await run('--projects', 'nothing')).err, /Harbor has no project "nothing"/);
  t.match((await run('--drivers', 'nydus')).err, /--drivers: "nydus" is not one of/);
  const env = { SEPIA_HARBOR_PASSWORD: 'Harbor12345' };
  t.equal((await sepiaWith(env, ...base, '--proxy', PROXY, '--dry-run')).code, 0, 'by environment');
  await harbor.stop();
  t.match((await run()).err, /does not answer to GET \/api\/v2\.0\/projects\/library/);
});
