import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { silentLogger } from '@sepia/base/log';
import { createOrigin, ORIGIN_CONFIG } from '@sepia/origin';
import { deleteManifest, tagAt } from '@sepia/test-support/clients/registry-calls';
import { pullUntilGiven, pushUntilTaken, randomImage } from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { noPostgres, PostgresServer } from '@sepia/test-support/postgres';
import { until } from '@sepia/test-support/until';
import t from 'tap';

const ORIGINS = ['origin-1', 'origin-2', 'origin-3'];

async function copy(
  cluster: Constellation,
  from: string,
  to: string,
  urlFile?: string,
): Promise<{ ok: boolean; text: string }> {
  const url = urlFile === undefined ? [] : ['--url-file', urlFile];
  const { code, stdout, stderr } = await cluster.sepia('records', 'copy', '--from', from, '--to', to, ...url);
  return { ok: code === 0, text: stdout + stderr };
}

t.test('records go from one engine to the other, and back', { skip: noPostgres() }, async (t) => {
  const server = await PostgresServer.start();
  t.teardown(async () => await server.remove());
  const dir = t.testdir();
  const urlFile = join(dir, 'records-url');
  writeFileSync(urlFile, server.url, { mode: 0o600 });
  const cluster = await Constellation.start(join(dir, 'cluster'), { agents: 0, trackers: 1, proxies: 1 });
  const started: { stop(): Promise<void> }[] = [];
  t.teardown(async () => {
    await cluster.stop();
    await Promise.all(started.map(async (one) => await one.stop()));
  });
  const [url] = cluster.proxyUrls as [string];
  const images = [randomImage([20_000]), randomImage([30_000]), randomImage([10_000])] as const;
  const push = async (tag: string, image: (typeof images)[number]): Promise<void> => {
    await pushUntilTaken(() => url, 'demo/app', tag, image);
  };
  /** All origins in this engine, without the records of the other one. */
  const begin = async (engine: object): Promise<void> => {
    await Promise.all(started.splice(0).map(async (one) => await one.stop()));
    for (const id of ORIGINS) {
      const config = ORIGIN_CONFIG.parse({ ...cluster.configs.get(id), ...engine });
      started.push(await createOrigin(config, { log: silentLogger(), acceptLoss: true }));
    }
  };
  const postgres = { records: { engine: 'postgres', 'url-file': urlFile } };

  await push('v1', images[0]);
  await push('gone', images[1]);
  await deleteManifest(url, 'demo/app', 'gone');
  const refused = await copy(cluster, 'embedded', 'postgres', urlFile);
  t.notOk(refused.ok);
  t.match(refused.text, /proxy-1 runs: stop all proxies/);
  await cluster.stopMember('proxy-1');
  server.sql(
    "INSERT INTO sepia_records VALUES ('n1'::bytea || '\\x00'::bytea || 'local'::bytea || '\\x00'::bytea || 'demo/other'::bytea, '{\"v\":1,\"atMs\":1,\"value\":{}}')",
  );
  const differs = await copy(cluster, 'embedded', server.url);
  t.notOk(differs.ok);
  t.match(differs.text, /1 records are not the same on both sides \(n1 local demo\/other\)/);
  server.sql('DELETE FROM sepia_records');
  const copied = await copy(cluster, 'embedded', 'postgres', urlFile);
  t.match(copied.text, /2 tags, \d+ links.*copied, and the same on both sides/);
  t.match((await copy(cluster, 'embedded', server.url)).text, /a cluster's already/);

  for (const id of ORIGINS) await cluster.stopMember(id);
  await begin(postgres);
  await cluster.startMember('proxy-1');
  await until(async () => (await tagAt(url, 'demo/app', 'v1')) === images[0].manifestDigest, 'v1 is there');
  t.equal(await tagAt(url, 'demo/app', 'gone'), undefined);
  await pullUntilGiven(url, 'demo/app', 'v1');
  await push('v2', images[2]);
  await cluster.stopMember('proxy-1');
  t.match(
    (await copy(cluster, server.url, 'embedded')).text,
    /origins must run with records.engine embedded/,
  );

  await begin({});
  const back = await copy(cluster, 'postgres', 'embedded', urlFile);
  t.match(back.text, /3 tags, \d+ links.*copied, and the same on both sides/);
  await cluster.startMember('proxy-1');
  await until(async () => (await tagAt(url, 'demo/app', 'v1')) === images[0].manifestDigest, 'v1 is there');
  t.equal(await tagAt(url, 'demo/app', 'v2'), images[2].manifestDigest);
  t.equal(await tagAt(url, 'demo/app', 'gone'), undefined);
  for (const tag of ['v1', 'v2']) await pullUntilGiven(url, 'demo/app', tag);
});
