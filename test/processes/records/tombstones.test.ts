import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { digestOf } from '@sepia/base/digest';
import { noPostgres, PostgresServer } from '@sepia/test-support/postgres';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { startCluster } from '../../../origin/test/support/cluster.ts';

/** As many as make a floor worth while, and some. */
const DEAD = Array.from({ length: 120 }, (_, index) => digestOf(Buffer.from(`dead ${index}`)));
const LIVE = digestOf(Buffer.from('live'));
const NAME = 'upstream=local&repository=team/app';

t.test('old deletes go from PostgreSQL too, and none comes back', { skip: noPostgres() }, async (t) => {
  const server = await PostgresServer.start();
  t.teardown(async () => await server.remove());
  const dir = mkdtempSync(join(tmpdir(), 'sepia-records-url-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const urlFile = join(dir, 'records-url');
  writeFileSync(urlFile, `${server.url}\n`, { mode: 0o600 });
  const c = await startCluster(t, {
    origins: 3,
    config: `records: { engine: postgres, url-file: '${urlFile}' }`,
    tombstonesMs: 2_000,
  });
  const put = async (id: string, records: readonly object[]): Promise<{ readonly behindMs?: number }> => {
    const headers = { 'content-type': 'application/json' };
    const path = `/v1/records/links?${NAME}`;
    const answer = await c.call(id, { method: 'PUT', path, body: JSON.stringify({ records }), headers });
    t.equal(answer.status, 200, answer.bytes.toString());
    return JSON.parse(answer.bytes.toString()) as { behindMs?: number };
  };
  const count = (): string =>
    server.sql("SELECT count(*) FROM sepia_records WHERE key LIKE 'l1%'::bytea").trim();
  const atMs = Date.now() - 20_000;
  await put(
    'o1',
    [LIVE, ...DEAD].map((digest) => ({ key: [digest], atMs, value: { sizeBytes: 1 } })),
  );
  await put(
    'o2',
    DEAD.map((digest) => ({ key: [digest], atMs: atMs + 1_000 })),
  );
  t.equal(count(), String(DEAD.length + 1));
  await until(() => count() === '1', 'deletes are gone, and nothing else', 60_000);
  for (const id of c.ids) {
    const { behindMs = 0 } = await put(id, [{ key: [DEAD[0]!], atMs: atMs + 500, value: { sizeBytes: 1 } }]);
    t.ok(behindMs > atMs, `${id}: a write of an old clock must take a later one`);
  }
  await c.stop('o1');
  await c.start('o1');
  const { behindMs = 0 } = await put('o1', [{ key: [DEAD[1]!], atMs: atMs + 500, value: { sizeBytes: 1 } }]);
  t.ok(behindMs > atMs, 'also after a start');
  t.equal(count(), '1');
});
