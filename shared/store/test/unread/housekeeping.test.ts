import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { Metrics } from '@sepia/base/metrics';
import { bytesOf } from '@sepia/test-support/seeded';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { BlobStore } from '../../src/blob-store.ts';
import { CACHED } from '../contract.ts';
import { inMemory } from '../grounds.ts';
import { badReads } from './bad-reads.ts';

const BUDGET = { budgetBytes: 60_000, highWatermark: 0.9, lowWatermark: 0.5 };

t.test('a count that failed is told, and made again; what comes meanwhile is counted once', async (t) => {
  const { files, dir } = await inMemory();
  let nowMs = 1e12;
  const deps = { dir, log: silentLogger(), nowMs: () => nowMs };
  const blobs = Array.from({ length: 6 }, (_none, seed) => bytesOf(10_000, seed));
  const first = await BlobStore.open({ ...deps, files }, { durable: false });
  for (const bytes of blobs.slice(0, 4)) {
    await first.putBytes(digestOf(bytes), bytes, CACHED);
    nowMs += 10_000;
  }
  await first.close();
  const shards = blobs.map((bytes) => digestOf(bytes).slice('sha256:'.length).slice(0, 2));
  const bad = shards.slice(0, 4).toSorted()[2]!;
  let isBad = true;
  const failing = badReads(files, (folder) => isBad && folder.endsWith(`/blobs/sha256/${bad}`));
  const store = await BlobStore.open(
    { ...deps, files: failing },
    { durable: false, ...BUDGET, keepHouseMs: 5 },
  );
  const metrics = new Metrics('agent', 'a1');
  t.same(store.warnings, []);
  await t.rejects(store.reconcile(), { code: 'DISK_CORRUPT' });
  t.match(store.warnings, [/^cache: what is kept could not be counted.*\(.*: \/d\/blobs\/sha256\/..\)/]);
  await store.putBytes(digestOf(blobs[4]!), blobs[4]!, CACHED);
  const failed = /^sepia_pass_failed\{loop="store".*\} 1$/m;
  await until(async () => failed.test(await metrics.registry.metrics()), 'its rounds say so too');
  isBad = false;
  await until(() => store.warnings.length === 0, 'it is counted');
  await until(async () => !failed.test(await metrics.registry.metrics()), 'and so do its rounds');
  t.equal(store.usage(), 50_000);
  await store.putBytes(digestOf(blobs[5]!), blobs[5]!, CACHED);
  await until(() => store.usage() <= 30_000, 'room is made');
  await store.close();
});

t.test('room that could not be made is told until it is', async (t) => {
  const { files, dir } = await inMemory();
  let isBad = false;
  const failing = badReads(files, (folder) => isBad && folder.endsWith('/blobs/sha256'));
  const deps = { dir, log: silentLogger(), nowMs: () => 1e12, files: failing };
  const store = await BlobStore.open(deps, { durable: false, ...BUDGET, keepHouseMs: 5 });
  await store.reconcile();
  isBad = true;
  for (let seed = 0; seed < 6; seed++)
    await store.putBytes(digestOf(bytesOf(10_000, seed)), bytesOf(10_000, seed), CACHED);
  await until(() => store.warnings.length > 0, 'it is told');
  t.match(store.warnings, [/^cache: no room could be made \(.*\/blobs\/sha256\)/]);
  isBad = false;
  await until(() => store.warnings.length === 0, 'it is made');
  t.ok(store.usage() <= 30_000);
  await store.close();
});
