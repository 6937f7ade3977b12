import { setImmediate } from 'node:timers/promises';
import { digestHex, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { forgetAtRest } from '@sepia/base/memory/at-rest';
import t from 'tap';
import { BlobStore } from '../src/blob-store.ts';
import type { FilePort } from '../src/files/file-port.ts';
import { CACHED, PUSHED } from './contract.ts';
import { CrashFiles } from './crash-files.ts';

const BYTES = Buffer.from('pushed by many');
const DIGEST = digestOf(BYTES);

/**
 * A store on files whose folders of blobs cannot be synced once `fails` is set; `syncing`: what each sync of a folder waits for;
 * `closing`: what the next one who read a sidecar waits for; `opened`: the same of one who opened a blob; `seeking`: what each who looks for a sidecar waits for.
 */
async function world() {
  const disk = new CrashFiles('/d');
  const made = {
    fails: false,
    disk,
    syncing: async (_path: string): Promise<void> => undefined,
    closing: undefined as (() => Promise<void>) | undefined,
    opened: undefined as (() => Promise<void>) | undefined,
    seeking: async (): Promise<void> => undefined,
  };
  const files: FilePort = {
    open: async (path, mode) => {
      const file = await disk.open(path, mode);
      const { closing, opened } = made;
      if (opened !== undefined && path.startsWith('/d/blobs/')) {
        made.opened = undefined;
        await opened();
      }
      if (closing === undefined || mode !== 'read' || !path.startsWith('/d/meta/')) return file;
      made.closing = undefined;
      const close = file.close.bind(file);
      file.close = async () => {
        await closing();
        await close();
      };
      return file;
    },
    rename: (from, to) => disk.rename(from, to),
    unlink: (path) => disk.unlink(path),
    list: (folder) => disk.list(folder),
    stat: async (path) => {
      const facts = await disk.stat(path);
      if (path.startsWith('/d/meta/')) await made.seeking();
      return facts;
    },
    makeFolder: (path) => disk.makeFolder(path),
    syncFolder: async (path) => {
      if (made.fails && path.startsWith('/d/blobs/')) throw new CodedError('DISK_FAILED');
      await made.syncing(path);
      await disk.syncFolder(path);
    },
    touch: (path, atMs) => disk.touch(path, atMs),
  };
  const deps = { files, dir: '/d', log: silentLogger(), nowMs: () => 1e12 };
  return { made, store: await BlobStore.open(deps, { durable: true }) };
}

t.test('a blob that was acknowledged outlives a later push of it that the disk refuses', async (t) => {
  const { store, made } = await world();
  await store.putBytes(DIGEST, BYTES, PUSHED);
  made.fails = true;
  await t.rejects(store.putBytes(DIGEST, BYTES, PUSHED), { code: 'DISK_FAILED' });
  t.ok(await store.has(DIGEST));
  for (const isKept of [true, false]) {
    const left = made.disk.afterPowerLoss(() => isKept);
    const deps = { files: left, dir: '/d', log: silentLogger(), nowMs: () => 1e12 };
    const again = await BlobStore.open(deps, { durable: true });
    const handle = await again.open(DIGEST);
    t.same(await handle?.readAllVerified(), BYTES, 'after a power loss too');
    await handle?.close();
    await again.close();
  }
  await store.close();
});

t.test('a first push that the disk refuses leaves nothing', async (t) => {
  const { store, made } = await world();
  made.fails = true;
  await t.rejects(store.putBytes(DIGEST, BYTES, PUSHED), { code: 'DISK_FAILED' });
  t.notOk(await store.has(DIGEST));
  await store.close();
});

t.test('a blob goes only if it is as it was meant at the last moment', async (t) => {
  const { store } = await world();
  await store.putBytes(DIGEST, BYTES, CACHED);
  const isPushed = (attrs: { readonly class: string } | undefined): boolean => attrs?.class === 'pushed';
  const again = store.setAttrs(DIGEST, { class: 'pushed', writtenBack: false });
  t.equal(await store.deleteUnless(DIGEST, isPushed), 0, 'the push came first');
  await again;
  t.ok(await store.has(DIGEST));
  t.equal(await store.deleteUnless(DIGEST, () => false), BYTES.length);
  t.equal(await store.deleteUnless(DIGEST, (attrs) => attrs === undefined), 0, 'nothing is known of it');
  await store.close();
});

/** Resolves `asked` once folders of so many kinds are being synced; none of their syncs ends before `open` is called. */
function heldSyncs(count: number) {
  const kinds = new Set<string>();
  const asked = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  const syncing = async (path: string): Promise<void> => {
    const kind = /^\/d\/(blobs|meta)\/sha256\/../.exec(path)?.[1];
    if (kind === undefined) return;
    kinds.add(kind);
    if (kinds.size === count) asked.resolve();
    await gate.promise;
  };
  return { asked: asked.promise, open: () => gate.resolve(), kinds, syncing };
}

t.test('the folders of a pushed blob and of its sidecar are synced beside each other', async (t) => {
  const { store, made } = await world();
  const held = heldSyncs(2);
  made.syncing = held.syncing;
  let isStored = false;
  const put = store.putBytes(DIGEST, BYTES, PUSHED).then(() => {
    isStored = true;
  });
  await held.asked;
  t.notOk(isStored, 'neither is durable yet');
  held.open();
  await put;
  t.ok(await store.has(DIGEST));
  await store.close();
});

t.test('the sidecar of a cached blob is durable before the blob appears', async (t) => {
  const { store, made } = await world();
  const held = heldSyncs(1);
  made.syncing = held.syncing;
  const put = store.putBytes(DIGEST, BYTES, CACHED);
  await held.asked;
  t.same([...held.kinds], ['meta']);
  t.equal(await made.disk.stat(`/d/blobs/sha256/${DIGEST.slice(7, 9)}/${DIGEST.slice(7)}`), undefined);
  held.open();
  await put;
  await store.close();
});

t.test('who read a sidecar before it was written remembers nothing', async (t) => {
  for (const push of ['again', 'attributes'] as const) {
    const { store, made } = await world();
    await store.putBytes(DIGEST, BYTES, CACHED);
    forgetAtRest();
    const read = Promise.withResolvers<void>();
    const gate = Promise.withResolvers<void>();
    made.closing = async () => {
      read.resolve();
      await gate.promise;
    };
    const before = store.stat(DIGEST);
    await read.promise;
    if (push === 'again') await store.putBytes(DIGEST, BYTES, PUSHED);
    else await store.setAttrs(DIGEST, { class: 'pushed', writtenBack: false });
    gate.resolve();
    t.equal((await before)?.attrs.class, 'cached');
    t.equal((await store.stat(DIGEST))?.attrs.class, 'pushed');
    t.equal(await store.deleteUnless(DIGEST, (attrs) => attrs?.class === 'pushed'), 0, 'it was acknowledged');
    await store.close();
  }
});

/** A pushed blob whose bytes are wrong and whose sidecar is lost: the next look reads all of it, and drops it. */
async function damagedWithoutSidecar(): ReturnType<typeof world> {
  const all = await world();
  const { store, made } = all;
  await store.putBytes(DIGEST, BYTES, PUSHED);
  const [blob, meta] = ['/d/blobs/', '/d/meta/'].map((folder) =>
    made.disk.paths().find((path) => path.startsWith(folder) && path.endsWith(digestHex(DIGEST))),
  );
  made.disk.peek(blob!)[0]! ^= 1;
  await made.disk.unlink(meta!);
  forgetAtRest();
  return all;
}

t.test('a damaged copy that is read while it is deleted takes no later push along', async (t) => {
  const { store, made } = await damagedWithoutSidecar();
  const read = Promise.withResolvers<void>();
  const gate = Promise.withResolvers<void>();
  made.opened = async () => {
    read.resolve();
    await gate.promise;
  };
  const turns = async (): Promise<void> => {
    for (let turn = 0; turn < 1_000; turn++) await setImmediate();
  };
  const looked = store.stat(DIGEST);
  await read.promise;
  const deleted = store.delete(DIGEST);
  await Promise.race([deleted, turns()]);
  const pushed = store.putBytes(DIGEST, BYTES, PUSHED);
  await Promise.race([pushed, turns()]);
  gate.resolve();
  t.equal(await looked, undefined);
  await Promise.all([deleted, pushed]);
  t.ok(await store.has(DIGEST), 'it was acknowledged');
  await store.close();
});

t.test(
  'a damaged copy that a look finds only when its delete has begun takes no later push along',
  async (t) => {
    const { store, made } = await damagedWithoutSidecar();
    const stops = [0, 1, 2].map(
      () => [Promise.withResolvers<void>(), Promise.withResolvers<void>()] as const,
    );
    const [sought, deleting, read] = stops as [(typeof stops)[0], (typeof stops)[0], (typeof stops)[0]];
    const waits = [sought, deleting];
    made.seeking = async () => await stopAt(waits.shift());
    made.opened = async () => await stopAt(read);
    const looked = store.stat(DIGEST);
    await sought[0].promise;
    const deleted = store.delete(DIGEST);
    await deleting[0].promise;
    sought[1].resolve();
    await read[0].promise;
    deleting[1].resolve();
    await deleted;
    await store.putBytes(DIGEST, BYTES, PUSHED);
    read[1].resolve();
    await looked;
    t.ok(await store.has(DIGEST), 'it was acknowledged');
    await store.close();
  },
);

/** Says that it came here, and waits. */
async function stopAt(
  stop: readonly [PromiseWithResolvers<void>, PromiseWithResolvers<void>] | undefined,
): Promise<void> {
  stop?.[0].resolve();
  await stop?.[1].promise;
}
