import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { silentLogger } from '@sepia/base/log';
import t, { type Test } from 'tap';
import { createOrigin, loadOriginConfig } from '../src/index.ts';

function write(t: Test, config: string, members: object[]): string {
  const dir = t.testdir();
  writeFileSync(join(dir, 'key'), 'ab'.repeat(32), { mode: 0o600 });
  writeFileSync(
    join(dir, 'cluster.yaml'),
    JSON.stringify({ version: 1, members, upstreams: [{ name: 'local', mode: 'none' }] }),
  );
  const file = join(dir, 'origin.yaml');
  writeFileSync(file, config);
  return file;
}

const ORIGIN = { id: 'o1', role: 'origin', urls: ['http://127.0.0.1:1'] };
const BASE = [
  'data: d',
  'cluster-key-file: key',
  'cluster-document: cluster.yaml',
  'listen: 127.0.0.1:0',
  "peer-listen: ['127.0.0.1:0']",
  'admin-listen: 127.0.0.1:0',
];

t.test('paths are relative to the file, defaults are there', async (t) => {
  const file = write(
    t,
    ['id: o1', ...BASE, 'credentials: {hub: {username: u, password-file: secret}}'].join('\n'),
    [ORIGIN],
  );
  const config = loadOriginConfig(file);
  t.equal(config.data, join(file, '..', 'd'));
  t.equal(config.credentials['hub']?.['password-file'], join(file, '..', 'secret'));
  t.equal(config.deadlines['fetch-progress'], 10_000);
  t.equal(config.deadlines['first-byte'], 60_000);
  await t.rejects(createOrigin(config, { log: silentLogger() }), {
    code: 'CONFIG_INVALID',
    message: /credentials\.hub/,
  });
});

t.test('what no timer waits for may take longer than timers do', async (t) => {
  const long = 'deadlines: {upload-idle: 60d, swarm-idle: 400d}';
  const config = loadOriginConfig(write(t, ['id: o1', ...BASE, long].join('\n'), [ORIGIN]));
  t.equal(config.deadlines['upload-idle'], 60 * 86_400_000);
  t.equal(config.deadlines['swarm-idle'], 400 * 86_400_000);
});

t.test('what is wrong is named', async (t) => {
  for (const [config, members, message] of [
    [BASE, [ORIGIN], /^id: is missing/],
    [['id: o2', ...BASE], [ORIGIN], /^id: "o2" is not in .*cluster\.yaml/],
    [['id: o1', ...BASE], [{ ...ORIGIN, role: 'proxy' }], /^id: "o1" has role proxy/],
    [['id: o1', ...BASE, 'typo: 1'], [ORIGIN], /unknown key typo/],
    [['id: o1', ...BASE, "deadlines: {fetch-progress: '10'}"], [ORIGIN], /deadlines\.fetch-progress/],
    [['id: o1', ...BASE, "deadlines: {first-byte: '61s'}"], [ORIGIN], /deadlines\.first-byte.*at most 60s/],
    [['id: o1', ...BASE, 'compare-every: 0s'], [ORIGIN], /compare-every: is at least 1s, not 0s/],
    [['id: o1', ...BASE, 'compare-every: 30d'], [ORIGIN], /compare-every: is at most 24d, not 30d/],
    [['id: o1', ...BASE, 'scrub: {every: 0s}'], [ORIGIN], /scrub\.every: is at least 1s, not 0s/],
    [['id: o1', ...BASE, 'cache: {budget: 0}'], [ORIGIN], /cache\.budget: is at least 64KiB, not 0/],
    [['id: o1', ...BASE, 'records: {tombstones: 0s}'], [ORIGIN], /records\.tombstones: is at least 1m/],
    [['id: o1', ...BASE, 'records: {tombstones: 59s}'], [ORIGIN], /records\.tombstones: is at least 1m/],
    [
      ['id: o1', ...BASE.filter((line) => !line.startsWith('peer')), 'peer-listen: []'],
      [ORIGIN],
      /peer-listen/,
    ],
  ] as const) {
    const file = write(t, config.join('\n'), [...members]);
    const start = async (): Promise<unknown> =>
      await createOrigin(loadOriginConfig(file), { log: silentLogger() });
    await t.rejects(start(), { code: 'CONFIG_INVALID', message }, String(message));
  }
});

t.test('ready, metrics, and a clean stop', async (t) => {
  const file = write(t, ['id: o1', ...BASE].join('\n'), [ORIGIN]);
  const origin = await createOrigin(loadOriginConfig(file), { log: silentLogger() });
  t.equal((await fetch(`${origin.adminUrl}/readyz`)).status, 200);
  const metrics = await (await fetch(`${origin.adminUrl}/metrics`)).text();
  t.match(metrics, /^sepia_origin_upstream_bytes_total\{[^}]*upstream="[^}]*\} 0$/m, 'from the start');
  t.match(metrics, /^sepia_swarm_pieces_bad_total\{[^}]*\} 0$/m);
  t.match(origin.peerAddresses[0], /^127\.0\.0\.1:\d+$/);
  await origin.stop();
  await origin.stop();
  const again = await createOrigin(loadOriginConfig(file), { log: silentLogger() });
  await again.stop();
});
