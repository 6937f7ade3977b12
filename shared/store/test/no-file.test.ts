import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { NO_FILES, type Put } from '@sepia/test-support/no-file';
import { bytesOf } from '@sepia/test-support/seeded';
import t, { type Test } from 'tap';
import { BlobStore } from '../src/blob-store.ts';
import { Asides } from '../src/files/asides.ts';
import { diskFiles, newHandle } from '../src/files/disk-files.ts';
import { readWhole, replaceWhole } from '../src/files/file-port.ts';
import { JsonFolder } from '../src/scratch/json-folder.ts';
import { blobPath, CACHED, readAll, writePieces } from './contract.ts';

const BYTES = bytesOf(PIECE_BYTES + 9, 7);
const DIGEST = digestOf(BYTES);
const OUTSIDE = 'outside';

/** What may lie at the place of a file of ours. */
const THINGS: Readonly<Record<string, Put>> = {
  ...NO_FILES,
  'a link to the content, moved away': (path, outside) => {
    writeFileSync(`${outside}-moved`, BYTES);
    symlinkSync(`${outside}-moved`, path);
  },
};

async function opened(dir: string): Promise<BlobStore> {
  return await BlobStore.open(
    { files: diskFiles, dir, log: silentLogger(), nowMs: () => Date.now() },
    { durable: false, bootId: 'one', mapDelayMs: 0 },
  );
}

/** A store in a folder, and a file beside it that nobody may touch. */
async function world(t: Test): Promise<{ store: BlobStore; dir: string; outside: string }> {
  const top = t.testdir({ [OUTSIDE]: 'not ours', v1: {} });
  const dir = join(top, 'v1');
  const store = await opened(dir);
  return { store, dir, outside: join(top, OUTSIDE) };
}

async function isWhole(store: BlobStore): Promise<boolean> {
  const found = await readAll(store, DIGEST);
  return found !== undefined && Buffer.from(found).equals(BYTES);
}

for (const [thing, put] of Object.entries(THINGS)) {
  for (const kind of ['blobs', 'meta', 'leaves'] as const)
    t.test(`${thing} lies where a file of ${kind} was: the blob is stored again`, async (t) => {
      const { store, dir, outside } = await world(t);
      await store.putBytes(DIGEST, BYTES, CACHED);
      const path = blobPath(dir, DIGEST, kind);
      mkdirSync(dirname(path), { recursive: true });
      rmSync(path, { force: true });
      put(path, outside);
      const again = await opened(dir);
      t.equal(
        await isWhole(again),
        kind !== 'blobs',
        'without the blob there is none; what is beside it is made again',
      );
      await again.putBytes(DIGEST, BYTES, CACHED);
      t.ok(await isWhole(again));
      t.equal(readFileSync(outside, 'utf8'), 'not ours');
      await again.reconcile();
      await again.close();
      await store.close();
    });
}

t.test('what is no file is neither opened nor followed, and makes room', async (t) => {
  for (const [thing, put] of Object.entries(THINGS)) {
    const top = t.testdir({ [OUTSIDE]: 'not ours', here: {} });
    const path = join(top, 'here', 'one');
    put(path, join(top, OUTSIDE));
    t.equal(await readWhole(diskFiles, path), undefined, thing);
    t.not((await diskFiles.stat(path))?.kind, 'file', thing);
    await replaceWhole(diskFiles, { path, temporary: `${path}.new`, durable: false }, Buffer.from('ours'));
    t.equal(readFileSync(path, 'utf8'), 'ours', thing);
    t.equal(readFileSync(join(top, OUTSIDE), 'utf8'), 'not ours', thing);
    const aside = readdirSync(join(top, 'here')).filter((name) => name !== 'one');
    t.equal(
      aside.length,
      /folder/.test(thing) && !/link/.test(thing) ? 1 : 0,
      `${thing}: moved aside, never emptied`,
    );
    renameSync(path, `${path}.done`);
    put(path, join(top, OUTSIDE));
    await diskFiles.unlink(path);
    t.equal((await diskFiles.stat(path)) === undefined, thing !== 'a folder with something in it', thing);
  }
});

t.test('what was moved aside is told when it is, by the next process, and until it is gone', async (t) => {
  const { store, dir } = await world(t);
  await store.putBytes(DIGEST, BYTES, CACHED);
  t.same(store.warnings, []);
  const path = blobPath(dir, DIGEST);
  rmSync(path);
  mkdirSync(join(path, 'inner'), { recursive: true });
  await store.close();
  const told: unknown[] = [];
  const log = { ...silentLogger(), warn: (facts: object) => void told.push(facts) };
  const files = { files: diskFiles, dir, log, nowMs: () => Date.now() };
  const next = await BlobStore.open(files, { durable: false, bootId: 'one' });
  await next.putBytes(DIGEST, BYTES, CACHED);
  const [aside, ...more] = readdirSync(dirname(path)).filter((name) => name.includes('.aside-'));
  t.same(more, []);
  const there = join(dirname(path), aside!);
  t.same(next.warnings, [`aside: folders lay where files belong: look into ${there}, then remove them`]);
  t.same(told.at(-1), { path: there });
  await next.close();
  const last = await opened(dir);
  await last.reconcile();
  t.same(last.warnings, next.warnings);
  await last.close();
  const asides = new Asides(silentLogger());
  const watched = asides.watch(diskFiles);
  await watched.list(dirname(path));
  await asides.look(watched);
  t.same(asides.warnings, next.warnings);
  rmSync(there, { recursive: true });
  await asides.look(watched);
  t.same(asides.warnings, []);
});

t.test('what is no file is not opened to be changed either', async (t) => {
  for (const [thing, put] of Object.entries(THINGS)) {
    const top = t.testdir({ [OUTSIDE]: 'not ours', here: {} });
    const path = join(top, 'here', 'one');
    put(path, join(top, OUTSIDE));
    await t.rejects(diskFiles.open(path, 'update'), { code: 'ENOENT' }, thing);
  }
  t.ok(Object.keys(THINGS).length > 5);
});

t.test('a value whose place is no file counts as none, and can be put', async (t) => {
  for (const [thing, put] of Object.entries(THINGS)) {
    const top = t.testdir({ [OUTSIDE]: 'not ours', values: {} });
    const folder = await JsonFolder.open(join(top, 'values'), (value): value is { n: number } =>
      Object.hasOwn(value as object, 'n'),
    );
    put(join(top, 'values', 'a'), join(top, OUTSIDE));
    t.equal(await folder.get('a'), undefined, thing);
    await folder.put('a', { n: 1 });
    t.same(await folder.get('a'), { n: 1 }, thing);
  }
});

t.test('a partial whose files are none begins anew', async (t) => {
  for (const [thing, put] of Object.entries(THINGS)) {
    const { store, dir, outside } = await world(t);
    const partial = await store.openPartial(DIGEST, BYTES.length);
    await writePieces(partial, BYTES, [0]);
    await store.close();
    const folder = join(dir, 'partial');
    const names = readdirSync(folder);
    t.ok(names.length >= 2, `${names}`);
    for (const name of names) {
      rmSync(join(folder, name));
      put(join(folder, name), outside);
    }
    const next = await opened(dir);
    const again = await next.openPartial(DIGEST, BYTES.length);
    t.equal(again.have.count, 0, thing);
    await writePieces(again, BYTES, [0, 1]);
    t.equal(again.have.count, 2, thing);
    await next.close();
    t.equal(readFileSync(outside, 'utf8'), 'not ours', thing);
  }
});

t.test('a new file is empty, whatever one that was killed left of its own', async (t) => {
  const path = join(t.testdir(), 'file');
  for (const left of ['half of it', '']) {
    writeFileSync(`${path}.new`, left);
    writeFileSync(path, 'what was there');
    const handle = await newHandle(path);
    t.equal((await handle.stat()).size, 0);
    await handle.write('now');
    await handle.close();
    t.equal(readFileSync(path, 'utf8'), 'now');
    t.same(readdirSync(dirname(path)), ['file']);
  }
});
