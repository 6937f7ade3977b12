import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { silentLogger } from '@sepia/base/log';
import { createOrigin, ORIGIN_CONFIG } from '@sepia/origin';
import { call, callUntilAnswered, deleteManifest, tagAt } from '@sepia/test-support/clients/registry-calls';
import {
  type PushedImage,
  pullUntilGiven,
  pushUntilTaken,
  randomImage,
} from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { noPostgres, PostgresServer } from '@sepia/test-support/postgres';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';

const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

const ANYWHERE = { listen: '127.0.0.1:0', 'admin-listen': '127.0.0.1:0', 'peer-listen': ['127.0.0.1:0'] };

interface Bed {
  readonly cluster: Constellation;
  readonly server: PostgresServer;
  /** The proxies by turns. */
  readonly proxy: () => string;
}

async function bedOf(t: Test): Promise<Bed> {
  const server = await PostgresServer.start();
  t.teardown(async () => await server.remove());
  const dir = t.testdir();
  const urlFile = join(dir, 'records-url');
  mkdirSync(dir, { recursive: true });
  writeFileSync(urlFile, `${server.url}\n`, { mode: 0o600 });
  const cluster = await Constellation.start(join(dir, 'cluster'), {
    agents: 0,
    trackers: 1,
    proxies: 2,
    origin: { records: { engine: 'postgres', 'url-file': urlFile } },
    upstreams: [{ name: 'local', mode: 'none', quotas: [{ repositories: ['small/*'], size: 1_000_000 }] }],
  });
  t.teardown(async () => await cluster.stop());
  let turn = 0;
  return { cluster, server, proxy: () => cluster.proxyUrls[turn++ % cluster.proxyUrls.length]! };
}

/** As clients do: what a busy member answers with 503 is asked again. */
async function push(
  bed: Pick<Bed, 'proxy'>,
  repository: string,
  tag: string,
  image: PushedImage,
): Promise<void> {
  await pushUntilTaken(bed.proxy, repository, tag, image);
}

async function putTag(url: string, repository: string, tag: string, image: PushedImage): Promise<number> {
  const headers = { 'content-type': OCI_MANIFEST };
  return (await call('PUT', `${url}/v2/${repository}/manifests/${tag}`, { body: image.manifest, headers }))
    .status;
}

async function sepia(cluster: Constellation, ...args: string[]): Promise<string> {
  const { stdout, stderr } = await cluster.sepia(...args);
  return stdout + stderr;
}

async function metric(cluster: Constellation, id: string, name: string): Promise<number> {
  const text = (await call('GET', `${cluster.adminUrl(id)}/metrics`)).bytes.toString('utf8');
  return Number(new RegExp(`^${name}\\{.*\\} (.+)$`, 'm').exec(text)?.[1]);
}

t.test('a cluster whose records rest in PostgreSQL', { skip: noPostgres() }, async (t) => {
  const { cluster, server, proxy } = await bedOf(t);
  const base = randomImage([20_000, 30_000]);

  await t.test('takes pushes and tells them at once, everywhere', async (t) => {
    await push({ proxy }, 'demo/app', 'v1', base);
    for (const url of cluster.proxyUrls) t.ok((await pullUntilGiven(url, 'demo/app', 'v1')) > 50_000);
    const images = [randomImage([2_000]), randomImage([2_000]), randomImage([2_000]), randomImage([2_000])];
    for (const [at, image] of images.entries()) await push({ proxy }, 'demo/app', `base${at}`, image);
    const acknowledged: string[] = [];
    await Promise.all(
      images.map(async (image, at) => {
        const url = cluster.proxyUrls[at % 2]!;
        await until(async () => (await putTag(url, 'demo/app', 'moving', image)) === 201, 'it is taken');
        acknowledged.push(image.manifestDigest);
      }),
    );
    const seen = await Promise.all(
      cluster.proxyUrls.map(async (url) => await tagAt(url, 'demo/app', 'moving')),
    );
    t.ok(acknowledged.includes(seen[0]!), 'one of those that were pushed');
    t.equal(seen[1], seen[0], 'the same at every proxy');
    const list = await callUntilAnswered('GET', `${proxy()}/v2/demo/app/tags/list`);
    t.same(list.json<{ tags: string[] }>().tags, ['base0', 'base1', 'base2', 'base3', 'moving', 'v1']);
    const catalog = await callUntilAnswered('GET', `${proxy()}/v2/_catalog`);
    t.match(catalog.json(), { repositories: ['demo/app'] });
    await deleteManifest(proxy(), 'demo/app', 'base3');
    for (const url of cluster.proxyUrls) t.equal(await tagAt(url, 'demo/app', 'base3'), undefined);
  });

  await t.test('counts quotas of what any origin took', async (t) => {
    await push({ proxy }, 'small/app', 'v1', randomImage([500_000]));
    await t.rejects(push({ proxy }, 'small/app', 'v2', randomImage([600_000])), /403/);
    await push({ proxy }, 'small/app', 'v3', randomImage([300_000]));
    t.pass('what arrived is held no longer');
  });

  await t.test('collects what no tag leads to', async (t) => {
    await deleteManifest(proxy(), 'small/app', 'v1');
    const image = await tagAt(proxy(), 'small/app', 'v3');
    await deleteManifest(proxy(), 'small/app', image!);
    let reports = '';
    await until(async () => {
      reports += await sepia(cluster, 'gc', '--json', '--grace', '0s');
      return /"phase":"done"/.test(reports);
    }, 'a collection comes to its end');
    t.match(reports, /small\/app/);
    await pullUntilGiven(proxy(), 'demo/app', 'v1');
  });

  await t.test('is whole with one origin left, and with a folder that was lost', async (t) => {
    await cluster.stopMember('origin-2');
    await cluster.stopMember('origin-3');
    for (const url of cluster.proxyUrls)
      t.equal(await tagAt(url, 'demo/app', 'v1'), base.manifestDigest, 'each origin is enough');
    await cluster.startMember('origin-2');
    rmSync(cluster.dataOf('origin-3'), { recursive: true });
    await cluster.startMember('origin-3');
    for (const url of cluster.proxyUrls) await pullUntilGiven(url, 'demo/app', 'v1');
    await push({ proxy }, 'demo/app', 'v2', randomImage([10_000]));
  });

  await t.test('says so while the database is away, and never a wrong tag', async (t) => {
    await server.kill();
    await until(async () => {
      const { status, bytes } = await call('GET', `${proxy()}/v2/demo/app/manifests/v1`);
      t.equal(status, 503);
      return /the records' database does not answer/.test(bytes.toString('utf8'));
    }, 'it says what is away');
    t.equal(await putTag(proxy(), 'demo/app', 'v1', base), 503);
    const ready = await until(async () => {
      const found = await call('GET', `${cluster.adminUrl('origin-1')}/readyz`);
      await call('HEAD', `${proxy()}/v2/demo/app/manifests/v1`);
      return found.status === 503 ? found : undefined;
    }, 'an origin that is not ready');
    t.match(ready.bytes.toString('utf8'), /records' database 127\.0\.0\.1:\d+\/postgres does not answer: ./);
    t.equal(await metric(cluster, 'origin-1', 'sepia_origin_records_up'), 0);
    await server.resume();
    await until(
      async () => (await tagAt(proxy(), 'demo/app', 'v1')) === base.manifestDigest,
      'the tag again',
    );
    await until(async () => {
      await tagAt(proxy(), 'demo/app', 'v1');
      return (await call('GET', `${cluster.adminUrl('origin-1')}/readyz`)).status === 200;
    }, 'it is ready again');
    t.equal(await metric(cluster, 'origin-1', 'sepia_origin_records_up'), 1);
  });

  await t.test('refuses an origin that keeps records elsewhere', async (t) => {
    await cluster.stopMember('origin-3');
    const { records: _, ...config } = cluster.configs.get('origin-3')!;
    await t.rejects(createOrigin(ORIGIN_CONFIG.parse(config), { log: silentLogger() }), {
      code: 'START_FAILED',
      message: /records.engine is embedded, the records of this data folder rest in postgres/,
    });
    rmSync(cluster.dataOf('origin-3'), { recursive: true });
    const stranger = await createOrigin(ORIGIN_CONFIG.parse(config), { log: silentLogger() });
    const ready = await call('GET', `${stranger.adminUrl}/readyz`);
    t.match(ready.bytes.toString('utf8'), /waiting for the first start/, 'it never counts');
    await stranger.stop();
    await cluster.startMember('origin-3');
    t.equal(await tagAt(proxy(), 'demo/app', 'v1'), base.manifestDigest);
    const dir = t.testdir();
    const other = join(dir, 'other-key');
    writeFileSync(other, 'ab'.repeat(32), { mode: 0o600 });
    const foreign = {
      ...cluster.configs.get('origin-3'),
      'cluster-key-file': other,
      data: join(dir, 'data'),
    };
    await t.rejects(createOrigin(ORIGIN_CONFIG.parse(foreign), { log: silentLogger() }), {
      code: 'START_FAILED',
      message: /belongs to another cluster/,
    });
  });

  await t.test('is not begun anew where its records are gone', async (t) => {
    const owner = "'\\x6d3100636c7573746572'::bytea";
    const start = async (): Promise<unknown> =>
      await createOrigin(ORIGIN_CONFIG.parse(cluster.configs.get('origin-3')), { log: silentLogger() });
    await cluster.stopMember('origin-3');
    server.sql('CREATE TABLE kept AS TABLE sepia_records');
    server.sql('DELETE FROM sepia_records');
    const isEmpty = { code: 'START_FAILED', message: /is empty, and this origin has seen records in it/ };
    await t.rejects(start(), isEmpty);
    server.sql(`INSERT INTO sepia_records SELECT * FROM kept WHERE key <> ${owner}`);
    const isCut = { code: 'START_FAILED', message: /has records, but of no cluster/ };
    await t.rejects(start(), isCut);
    server.sql(`INSERT INTO sepia_records SELECT * FROM kept WHERE key = ${owner}`);
    await cluster.startMember('origin-3');
    t.equal(await tagAt(proxy(), 'demo/app', 'v1'), base.manifestDigest);
  });

  await t.test('leaves what the other engine keeps until it is reached itself', async (t) => {
    const dir = t.testdir();
    const alone = join(dir, 'cluster.yaml');
    const port = server.url.replace(/:\d+\//, ':1/');
    writeFileSync(join(dir, 'nobody'), port, { mode: 0o600 });
    const document = {
      version: 1,
      upstreams: [{ name: 'local', mode: 'none' }],
      members: [{ id: 'o1', role: 'origin', urls: ['http://127.0.0.1:1'] }],
    };
    writeFileSync(alone, JSON.stringify(document));
    const { records: _, ...given } = cluster.configs.get('origin-3')!;
    const config = { ...given, ...ANYWHERE, id: 'o1', data: join(dir, 'data'), 'cluster-document': alone };
    const first = await createOrigin(ORIGIN_CONFIG.parse(config), { log: silentLogger() });
    await first.stop();
    const records = { engine: 'postgres', 'url-file': join(dir, 'nobody') };
    const moved = ORIGIN_CONFIG.parse({ ...config, records });
    await t.rejects(createOrigin(moved, { log: silentLogger(), acceptLoss: true }), { code: 'START_FAILED' });
    const again = await createOrigin(ORIGIN_CONFIG.parse(config), { log: silentLogger() });
    await until(
      async () => (await call('GET', `${again.adminUrl}/readyz`)).status === 200,
      'it is ready: nothing of it was left',
    );
    await again.stop();
  });

  await t.test('is saved and brought back as any other', async (t) => {
    const file = join(t.testdir(), 'records.sepia');
    t.match(await sepia(cluster, 'backup', '--out', file), /records/);
    await deleteManifest(proxy(), 'demo/app', 'v2');
    t.equal(server.sql("DELETE FROM sepia_records WHERE key >= 'r1'::bytea AND key < 'r2'::bytea"), '');
    t.equal(await tagAt(proxy(), 'demo/app', 'v1'), undefined);
    t.comment(await sepia(cluster, 'restore', file));
    t.equal(await tagAt(proxy(), 'demo/app', 'v1'), base.manifestDigest);
  });
});
