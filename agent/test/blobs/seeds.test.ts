import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { BlobStore } from '@sepia/store/blob-store';
import { diskFiles } from '@sepia/store/files/disk-files';
import { seededBytes } from '@sepia/test-support/upstream/fake-upstream';
import t, { type Test } from 'tap';
import { Links } from '../../src/blobs/links.ts';
import { Seeds } from '../../src/blobs/seeds.ts';

const BYTES = seededBytes(3 * 1024 * 1024, 'seeds');
const DIGEST = digestOf(BYTES);
const NAME = { upstream: 'up', repository: parseRepositoryName('team/app'), digest: DIGEST };
const none = (): void => undefined;

/** A node that has a blob by one link; `opened` and `deleting` are waited for when it is open, and before its file goes. */
async function node(t: Test) {
  const gates = { opened: async () => {}, deleting: async () => {} };
  const log = silentLogger();
  const files = {
    ...diskFiles,
    unlink: async (path: string) => {
      if (!path.includes('/meta/') && path.endsWith(DIGEST.slice('sha256:'.length))) await gates.deleting();
      await diskFiles.unlink(path);
    },
  };
  const store = await BlobStore.open(
    { files, dir: t.testdir(), log, nowMs: Date.now },
    { durable: false, bootId: 'one' },
  );
  await store.putBytes(DIGEST, BYTES, { class: 'cached', provenance: [NAME], writtenBack: true });
  const told = new Set<string>();
  const joined: string[] = [];
  const seeds = new Seeds({
    store: {
      open: async (digest: typeof DIGEST) => {
        const handle = await store.open(digest);
        await gates.opened();
        return handle;
      },
    } as BlobStore,
    engine: {
      get: () => undefined,
      join: () => {
        joined.push(DIGEST);
        return { leave: none };
      },
    } as never,
    book: { touch: (digest) => void told.add(digest), drop: (digest) => void told.delete(digest) },
    trackerIds: () => [],
    log,
  });
  const missing = new Proxy({}, { get: () => none }) as never;
  const links = new Links({
    proofs: missing,
    hints: missing,
    origins: missing,
    store,
    seeds,
    log,
    nowMs: Date.now,
  });
  t.teardown(async () => {
    seeds.stop();
    await store.close();
  });
  return { store, seeds, links, told, joined, gates };
}

t.test('a blob that was deleted while it was being opened is not seeded', async (t) => {
  const { seeds, links, told, joined, gates } = await node(t);
  const opened = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  gates.opened = async () => {
    opened.resolve();
    await gate.promise;
  };
  seeds.touch(DIGEST);
  await opened.promise;
  await links.drop([NAME]);
  gate.resolve();
  await new Promise((resolve) => setImmediate(resolve));
  t.same([joined, [...told], seeds.count], [[], [], 0]);
});

t.test('a blob that is served while it goes is seeded no longer than it is there', async (t) => {
  const { store, seeds, links, told, gates } = await node(t);
  const deleting = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  gates.deleting = async () => {
    deleting.resolve();
    await gate.promise;
  };
  const dropping = links.drop([NAME]);
  await deleting.promise;
  const seeding = Promise.withResolvers<void>();
  gates.opened = async () => seeding.resolve();
  seeds.touch(DIGEST);
  await seeding.promise;
  gate.resolve();
  await dropping;
  t.notOk(await store.has(DIGEST));
  t.same([[...told], seeds.count], [[], 0]);
});

t.test('a blob that gets another link while the last one is revoked stays', async (t) => {
  const { store, seeds } = await node(t);
  const other = { upstream: 'up', repository: parseRepositoryName('team/other') };
  const missing = new Proxy({}, { get: () => none }) as never;
  const links = new Links({
    ...{ proofs: missing, hints: missing, origins: missing },
    ...{ seeds, log: silentLogger() },
    nowMs: () => 1,
    store: {
      setAttrs: async (...change: Parameters<BlobStore['setAttrs']>) => {
        const attrs = await store.setAttrs(...change);
        // Another repository's link is proven before the file goes.
        await store.addProvenance(DIGEST, other);
        return attrs;
      },
      deleteUnless: async (...asked: Parameters<BlobStore['deleteUnless']>) =>
        await store.deleteUnless(...asked),
    } as BlobStore,
  });
  await links.drop([NAME]);
  t.same((await store.stat(DIGEST))?.attrs.provenance, [other]);
});
