import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { digestOf } from '@sepia/base/digest';
import t from 'tap';
import { startCluster } from '../support/cluster.ts';
import { bytesOf, copies, fileIn, MIB, pull, push, REPOSITORY, until, written } from './bed.ts';

t.test('what was pushed to an upstream of mode write-back as well stays at the origins', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'sepia-backend-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const upstreams = [
    { name: 'local', mode: 'none', backend: { fs: { path: dir } } },
    { name: 'hub', mode: 'write-back', access: 'cluster', url: 'http://127.0.0.1:1' },
  ];
  const config = 'cache:\n  budget: 4MiB\n  high: 0.5\n  low: 0.2';
  const c = await startCluster(t, { origins: 1, config, document: { upstreams } });
  const both = bytesOf(3 * MIB, 1);
  const digest = digestOf(both);
  const path = `/v1/blobs/${digest}?upstream=hub&repository=${REPOSITORY}`;
  t.equal((await c.put(c.ids[0]!, path, both)).status, 201);
  await push(c, both);
  const other = await push(c, bytesOf(3 * MIB, 2));
  await until(written(c), 'both are written');
  t.ok(existsSync(fileIn(dir, digest)));
  await until(() => copies(c, other).length === 0, 'the other one makes room');
  t.equal(copies(c, digest).length, 1, 'the registry has not got it yet');
  for (const id of c.ids) await c.stop(id);
  for (const id of c.ids) await c.start(id);
  await until(written(c), 'nothing is owed after a restart');
  t.equal((await pull(c, c.ids[0]!, digest)).status, 200);
});
