import { type Digest, digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { bytesOf } from '@sepia/test-support/seeded';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { BlobStore } from '../src/blob-store.ts';
import type { BlobAttrs } from '../src/sidecar.ts';
import { blobPath, CACHED } from './contract.ts';
import { inMemory } from './grounds.ts';
import { badReads } from './unread/bad-reads.ts';

t.test('a blob whose sidecar the disk does not read stays, and holds up no other', async (t) => {
  const { files, dir } = await inMemory();
  let nowMs = 1e12;
  const deps = { dir, log: silentLogger(), nowMs: () => nowMs };
  const budget = { budgetBytes: 60_000, highWatermark: 0.9, lowWatermark: 0.5 };
  const first = await BlobStore.open({ ...deps, files }, { durable: true, budgetBytes: 1e6 });
  const digests = [];
  for (let seed = 0; seed < 6; seed++) {
    const bytes = bytesOf(10_000, seed);
    digests.push(digestOf(bytes));
    await first.putBytes(digestOf(bytes), bytes, CACHED);
    nowMs += 10_000;
  }
  await first.close();
  const bad = blobPath(dir, digests[0]!, 'meta');
  const failing = badReads(files, (path) => path === bad);
  const store = await BlobStore.open({ ...deps, files: failing }, { durable: true, ...budget });
  await store.reconcile();
  await store.evict();
  t.ok(store.usage() <= 30_000, `${store.usage()} bytes left`);
  t.ok(await files.stat(blobPath(dir, digests[0]!)), 'what cannot be judged is not taken');
  await store.close();
});

t.test('an eviction that ends above the mark says so: what could go is open', async (t) => {
  const { files, dir } = await inMemory();
  const budget = { budgetBytes: 15_000, highWatermark: 0.9, lowWatermark: 0.5 };
  const deps = { dir, files, log: silentLogger(), nowMs: () => 1e12 };
  const store = await BlobStore.open(deps, { durable: true, ...budget });
  await store.reconcile();
  let told = 0;
  const off = store.onTight(() => {
    told += 1;
  });
  const [one, two, three] = [1, 2, 3].map((seed) => bytesOf(10_000, seed)) as [Buffer, Buffer, Buffer];
  await store.putBytes(digestOf(one), one, CACHED);
  const reader = (await store.open(digestOf(one)))!;
  await store.putBytes(digestOf(two), two, CACHED);
  const alsoReader = await store.open(digestOf(two));
  await store.putBytes(digestOf(three), three, CACHED);
  await until(() => told > 0, 'it is told');
  off();
  const before = told;
  await reader.close();
  await alsoReader?.close();
  await store.evict();
  t.ok(store.usage() <= 7_500, `${store.usage()} bytes left`);
  t.equal(told, before, 'who left is not told');
  await store.close();
});

t.test('what is kept as a pushed blob once an eviction has asked about it stays', async (t) => {
  const { files, dir } = await inMemory();
  const bytes = bytesOf(10_000, 1);
  const digest = digestOf(bytes);
  const made: { store?: BlobStore } = {};
  const mayEvict = async (_digest: string, attrs: BlobAttrs): Promise<boolean> => {
    await made.store?.setAttrs(digest, { class: 'pushed', writtenBack: true });
    return attrs.class === 'cached';
  };
  const deps = { dir, files, log: silentLogger(), nowMs: () => 1e12, mayEvict };
  const store = await BlobStore.open(deps, { durable: true });
  made.store = store;
  await store.putBytes(digest, bytes, CACHED);
  await store.reconcile();
  store.adjust({ budgetBytes: 5_000, highWatermark: 0.9, lowWatermark: 0.5 });
  await store.evict();
  t.ok(await store.has(digest));
  await store.close();
});

t.test('blobs are listed in the order of their digests, from behind any of them', async (t) => {
  const { files, dir } = await inMemory();
  const deps = { dir, files, log: silentLogger(), nowMs: () => 1e12 };
  const store = await BlobStore.open(deps, { durable: true });
  const digests: Digest[] = [];
  for (let seed = 0; seed < 60; seed++) {
    const bytes = bytesOf(9, seed);
    digests.push(digestOf(bytes, seed % 5 === 0 ? 'sha512' : 'sha256'));
    await store.putBytes(digests.at(-1)!, bytes, CACHED);
  }
  digests.sort();
  const listed = async (after?: Digest): Promise<Digest[]> => {
    const found: Digest[] = [];
    for await (const { digest } of store.list(after)) found.push(digest);
    return found;
  };
  t.same(await listed(), digests);
  const folders = new Set(digests.map((digest) => digest.slice(0, 'sha256:ab'.length)));
  t.ok(folders.size < digests.length, 'some lie in one folder');
  for (const [at, after] of digests.entries()) t.same(await listed(after), digests.slice(at + 1));
  await store.close();
});
