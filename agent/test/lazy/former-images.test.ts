import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { type Logger, silentLogger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { OCI_CONFIG } from '@sepia/lazy/convert/documents';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { BlobStore } from '@sepia/store/blob-store';
import { diskFiles } from '@sepia/store/files/disk-files';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { FormerImages } from '../../src/lazy/former-images.ts';

const NEVER = new AbortController().signal;
const TARGET = { upstream: 'up', repository: parseRepositoryName('team/app') };
const digest = (text: string) => digestOf(Buffer.from(text), 'sha256');

function manifestOf(config: string): Buffer {
  const layers = [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: digest('layer'), size: 9 }];
  return Buffer.from(
    JSON.stringify({
      ...{ schemaVersion: 2, mediaType: OCI_MANIFEST, layers },
      config: { mediaType: OCI_CONFIG, digest: digest(config), size: config.length },
    }),
  );
}

async function cacheOf(t: Test, files = diskFiles): Promise<BlobStore> {
  const store = await BlobStore.open(
    { files, dir: t.testdir(), log: silentLogger(), nowMs: Date.now },
    { durable: false, bootId: 'one' },
  );
  t.teardown(() => store.close());
  return store;
}

/** Its store lists nothing before `go` is resolved. */
function waitingFor(store: BlobStore) {
  const go = Promise.withResolvers<void>();
  const counts = { lists: 0, stats: 0 };
  const former = new FormerImages({
    log: silentLogger(),
    store: {
      list: async function* () {
        counts.lists += 1;
        await go.promise;
        yield* store.list();
      },
      stat: async (one) => {
        counts.stats += 1;
        return await store.stat(one);
      },
      open: async (...args) => await store.open(...args),
    },
  });
  return { go, counts, former };
}

async function keep(store: BlobStore, bytes: Buffer, mediaType?: string): Promise<void> {
  const type = mediaType === undefined ? {} : { mediaType };
  const attrs = { class: 'cached', provenance: [TARGET], writtenBack: true, ...type } as const;
  await store.putBytes(digestOf(bytes, 'sha256'), bytes, attrs);
}

t.test('an image whose manifest was cached before is found by its config, in its repository', async (t) => {
  const store = await cacheOf(t);
  const manifest = manifestOf('one');
  await keep(store, manifest, OCI_MANIFEST);
  await keep(store, manifestOf('a blob that only looks like a manifest'));
  const former = new FormerImages({ store, log: silentLogger() });
  const found = await former.of(TARGET, digest('one'), NEVER);
  t.match(found, {
    ...TARGET,
    manifest: digestOf(manifest, 'sha256'),
    layers: [{ digest: digest('layer') }],
  });
  t.equal(await former.of(TARGET, digest('a blob that only looks like a manifest'), NEVER), undefined);
  const other = { ...TARGET, repository: parseRepositoryName('team/other') };
  t.equal(await former.of(other, digest('one'), NEVER), undefined);
});

t.test('one that cannot be read hides no other; a cache that cannot be is asked again', async (t) => {
  const store = await cacheOf(t);
  for (const config of ['one', 'two']) await keep(store, manifestOf(config), OCI_MANIFEST);
  const warned: object[] = [];
  const log = { ...silentLogger(), warn: (facts: object) => void warned.push(facts) } as unknown as Logger;
  const broken = digestOf(manifestOf('one'), 'sha256');
  let lists = 0;
  const former = new FormerImages({
    log,
    store: {
      list: () => {
        if (lists++ === 0) throw new Error('no list');
        return store.list();
      },
      stat: async (one) => await store.stat(one),
      open: async (one) => {
        const handle = await store.open(one);
        if (one === broken && handle !== undefined)
          handle.readAllVerified = async () => await Promise.reject(new Error('damaged'));
        return handle;
      },
    },
  });
  await t.rejects(former.of(TARGET, digest('two'), NEVER), { message: 'no list' });
  t.ok(await former.of(TARGET, digest('two'), NEVER));
  t.equal(await former.of(TARGET, digest('one'), NEVER), undefined);
  t.match(warned, [{ digest: broken }]);
  t.equal(lists, 2, 'read once');
});

t.test('what was begun goes on without who waited; looking is no use of a blob', async (t) => {
  const touched: string[] = [];
  let isNoted = false;
  const touch = async (path: string, atMs: number): Promise<void> => {
    if (isNoted) touched.push(path);
    await diskFiles.touch(path, atMs);
  };
  const store = await cacheOf(t, { ...diskFiles, touch });
  await keep(store, manifestOf('one'), OCI_MANIFEST);
  isNoted = true;
  const { go, counts, former } = waitingFor(store);
  former.begin();
  former.begin();
  const left = new AbortController();
  const waiting = former.of(TARGET, digest('one'), left.signal);
  left.abort(new Error('left'));
  await t.rejects(waiting, { message: 'left' });
  go.resolve();
  t.ok(await former.of(TARGET, digest('one'), NEVER));
  former.begin();
  t.equal(counts.lists, 1);
  t.same(touched, []);
});

t.test('who left before it was found out does not have it found out anew', async (t) => {
  const store = await cacheOf(t);
  await keep(store, manifestOf('one'), OCI_MANIFEST);
  const { go, counts, former } = waitingFor(store);
  const left = new AbortController();
  const waiting = former.of(TARGET, digest('one'), left.signal);
  left.abort(new Error('left'));
  await t.rejects(waiting, { message: 'left' });
  go.resolve();
  await until(() => counts.stats > 0, 'it is read though nobody waits');
  t.ok(await former.of(TARGET, digest('one'), NEVER));
  t.equal(counts.lists, 1);
});

t.test('a disk that does not say what is there keeps nobody from a pull', async (t) => {
  const [good, bad] = [manifestOf('one'), manifestOf('two')];
  const hex = digestOf(bad, 'sha256').slice('sha256:'.length);
  let isBad = (_path: string): boolean => false;
  const stat = async (path: string) => {
    if (isBad(path)) throw new CodedError('DISK_CORRUPT', { detail: { path } });
    return await diskFiles.stat(path);
  };
  const store = await cacheOf(t, { ...diskFiles, stat });
  for (const bytes of [good, bad]) await keep(store, bytes, OCI_MANIFEST);
  isBad = (path) => path.endsWith(hex);
  const former = new FormerImages({ store, log: silentLogger() });
  t.ok(await former.of(TARGET, digest('one'), NEVER));
  t.equal(await former.of(TARGET, digest('two'), NEVER), undefined);
  const list = (): never => {
    throw new CodedError('DISK_CORRUPT');
  };
  const unlisted = new FormerImages({
    log: silentLogger(),
    store: { list, stat: async (one) => await store.stat(one), open: async (one) => await store.open(one) },
  });
  t.equal(await unlisted.of(TARGET, digest('one'), NEVER), undefined);
});
