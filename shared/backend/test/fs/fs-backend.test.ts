import { mkdirSync, readdirSync, renameSync, rmSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { digestHex, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { diskFiles } from '@sepia/store/files/disk-files';
import type { FilePort } from '@sepia/store/files/file-port';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { FsBackend } from '../../src/fs/fs-backend.ts';
import { backendContract, bytesIn, bytesOf, contentOf, REPOSITORY, soon } from '../contract.ts';

const at = (
  path: string,
  options: { mayBegin?: boolean; callMs?: number; files?: FilePort } = {},
): FsBackend =>
  new FsBackend(
    { files: options.files ?? diskFiles },
    { path, callMs: options.callMs ?? 10_000, mayBegin: options.mayBegin ?? true, threads: 6 },
  );

t.test('a folder keeps the contract', async (t) => {
  let count = 0;
  await backendContract(t, {
    open: async (t: Test) => at(t.testdir({ [`b${++count}`]: {} })),
    again: async (_, backend) => at(backend.place),
    largeBytes: 3 * 1024 * 1024,
  });
});

t.test('a file system that is not mounted has nothing to say', async (t) => {
  const path = join(t.testdir({ mount: {} }), 'mount');
  const bytes = bytesOf(5_000);
  const where = { repository: REPOSITORY, digest: digestOf(bytes) };
  const first = at(path);
  await first.putBlob(contentOf(bytes), soon());
  renameSync(path, `${path}.away`);
  await t.rejects(at(path).headBlob(where, soon()), { code: 'BACKEND_DOWN', message: /is no folder/ });
  mkdirSync(path);
  const known = at(path, { mayBegin: false });
  const asks: (() => Promise<unknown>)[] = [
    () => known.headBlob(where, soon()),
    () => known.getBlob(where, soon()),
    () => known.putBlob(contentOf(bytes), soon()),
    () => known.deleteBlob(where, soon()),
    () => known.tidy(0, soon()),
    () => known.listBlobs(undefined, soon()).next(),
  ];
  for (const ask of asks)
    await t.rejects(ask, { code: 'BACKEND_DOWN', message: /sepia-backend any more; is it mounted/ });
  t.same(readdirSync(path), [], 'nothing is written below the mount');
  rmSync(path, { recursive: true });
  renameSync(`${path}.away`, path);
  t.ok((await bytesIn(known, where.digest)).equals(bytes), 'it is mounted again');
  renameSync(path, `${path}.away`);
  mkdirSync(path);
  const away = { code: 'BACKEND_DOWN' } as const;
  await t.rejects(first.putBlob(contentOf(bytesOf(6_000)), soon()), away, 'nor by who made it a backend');
  await t.rejects(known.putBlob(contentOf(bytes), soon()), away, 'also when it goes in the middle');
  await t.rejects(known.listBlobs(undefined, soon()).next(), away, 'an empty listing is no listing');
  await t.rejects(known.headBlob(where, soon()), away);
  t.same(readdirSync(path), []);
});

t.test('a mount that hangs is given up in time, and holds no more threads than it may', async (t) => {
  const path = t.testdir({});
  let hung = 0;
  const never: FilePort['stat'] = async () => {
    hung += 1;
    return await new Promise(() => undefined);
  };
  const backend = at(path, { files: { ...diskFiles, stat: never }, callMs: 50 });
  const asked = Array.from({ length: 20 }, async () => {
    const where = { repository: REPOSITORY, digest: digestOf(Buffer.from('x')) };
    await backend.headBlob(where, soon());
  });
  const ends = await Promise.allSettled(asked);
  t.ok(ends.every((one) => one.status === 'rejected' && one.reason.code === 'BACKEND_DOWN'));
  t.equal(hung, 6);
  const where = { repository: REPOSITORY, digest: digestOf(Buffer.from('x')) };
  await t.rejects(backend.headBlob(where, soon()), { message: /6 calls of the system hang/ }, 'said at once');
});

t.test('files that were let go on a mount that hangs are closed one by one when it is back', async (t) => {
  const path = t.testdir({});
  const bytes = bytesOf(5_000);
  await at(path).putBlob(contentOf(bytes), soon());
  const back = Promise.withResolvers<void>();
  let [closing, closed] = [0, 0];
  const hangs: FilePort = {
    ...diskFiles,
    open: async (file, mode) => {
      const opened = await diskFiles.open(file, mode);
      const close = async (): Promise<void> => {
        closing += 1;
        await back.promise;
        await opened.close();
        closed += 1;
      };
      return {
        read: async (into, offset) => await opened.read(into, offset),
        write: async (from, offset) => await opened.write(from, offset),
        sync: async () => await opened.sync(),
        sizeBytes: async () => await opened.sizeBytes(),
        close,
      } as typeof opened;
    },
  };
  const patience = { callMs: 60_000 };
  const backend = new FsBackend(
    { files: hangs },
    Object.assign(patience, { path, mayBegin: true, threads: 6 }),
  );
  const where = { repository: REPOSITORY, digest: digestOf(bytes) };
  for (let n = 0; n < 6; n++) (await backend.getBlob(where, soon())).body.destroy();
  await until(() => closing === 6, 'all are to be closed');
  // Nothing of the disk is waited for by who gets no thread.
  patience.callMs = 1;
  await t.rejects(
    backend.getBlob(where, soon()),
    { code: 'BACKEND_DOWN' },
    'all threads that it may have hang',
  );
  t.equal(closing, 6);
  patience.callMs = 60_000;
  back.resolve();
  await until(() => closed === 6, 'all are closed');
  (await backend.getBlob(where, soon())).body.destroy();
  await until(() => closed === 7, 'and it answers again');
});

t.test('what the file system refuses or fails at is told apart', async (t) => {
  const path = t.testdir({});
  const bytes = bytesOf(5_000);
  await at(path).putBlob(contentOf(bytes), soon());
  const other = contentOf(bytesOf(6_000));
  const failing = (system: string): FilePort => ({
    ...diskFiles,
    open: async (file, mode) => {
      if (mode === 'create') throw Object.assign(new Error(system), { code: system });
      return await diskFiles.open(file, mode);
    },
  });
  await t.rejects(at(path, { files: failing('EACCES') }).putBlob(other, soon()), { code: 'UPSTREAM_DENIED' });
  await t.rejects(at(path, { files: failing('ESTALE') }).putBlob(other, soon()), { code: 'BACKEND_DOWN' });
  const readOnly: FilePort = {
    ...diskFiles,
    // As the port of a disk tells of it.
    open: async (file, mode) => {
      if (mode === 'create') throw new CodedError('DISK_FAILED', { detail: { path: file, system: 'EROFS' } });
      return await diskFiles.open(file, mode);
    },
  };
  await t.rejects(at(path, { files: readOnly }).putBlob(other, soon()), {
    code: 'UPSTREAM_DENIED',
    message: /mounted read-only/,
  });
  const bug: FilePort = { ...diskFiles, rename: async () => Promise.reject(new TypeError('bug')) };
  await t.rejects(at(path, { files: bug }).putBlob(other, soon()), { name: 'TypeError' });
  t.same(readdirSync(join(path, 'writing')), [], 'nothing half is left');
});

t.test('a file that is shorter than its size is cut, not the blob', async (t) => {
  const path = t.testdir({});
  const bytes = bytesOf(600_000);
  const digest = digestOf(bytes);
  const backend = at(path);
  await backend.putBlob(contentOf(bytes), soon());
  const file = join(path, 'blobs/sha256', digestHex(digest).slice(0, 2), digestHex(digest));
  const { body } = await backend.getBlob({ repository: REPOSITORY, digest }, soon());
  truncateSync(file, 300_000);
  await t.rejects(
    async () => {
      for await (const _ of body);
    },
    { code: 'BACKEND_DOWN' },
  );
  t.equal(await backend.putBlob(contentOf(bytes), soon()), 'written', 'one of another size is written again');
  t.ok((await bytesIn(backend, digest)).equals(bytes));
});

t.test('what a writer that was killed left is removed when it is old', async (t) => {
  const path = t.testdir({ writing: { 'ab.cd': 'half' } });
  writeFileSync(join(path, 'writing', 'young'), 'half');
  utimesSync(join(path, 'writing', 'ab.cd'), 1_000, 1_000);
  t.equal(await at(path).tidy(2_000_000, soon()), 1);
  t.same(readdirSync(join(path, 'writing')), ['young']);
});

t.test('folders that somebody removes are made again', async (t) => {
  const path = t.testdir({});
  const backend = at(path);
  const content = contentOf(bytesOf(5_000));
  await backend.putBlob(content, soon());
  for (const name of ['blobs', 'writing']) rmSync(join(path, name), { recursive: true });
  await t.rejects(backend.putBlob(content, soon()), { code: 'BACKEND_DOWN' });
  t.equal(await backend.putBlob(content, soon()), 'written');
});

t.test(
  'what another writer renamed before it was killed is durable once it is said to be there',
  async (t) => {
    const path = t.testdir({});
    const bytes = bytesOf(5_000);
    const digest = digestOf(bytes);
    const shard = join(path, 'blobs', 'sha256', digestHex(digest).slice(0, 2));
    const filesThat = (atShard: () => void): FilePort => ({
      ...diskFiles,
      syncFolder: async (folder) => {
        if (folder === shard) atShard();
        await diskFiles.syncFolder(folder);
      },
    });
    let synced = 0;
    const first = at(path, { files: filesThat(() => (synced += 1)) });
    await first.putBlob(contentOf(bytes), soon());
    await first.deleteBlob({ digest }, soon());
    const killed = filesThat(() => {
      throw new CodedError('DRAINING');
    });
    await t.rejects(at(path, { files: killed }).putBlob(contentOf(bytes), soon()), { code: 'DRAINING' });
    const before = synced;
    t.equal(await first.putBlob(contentOf(bytes), soon()), 'there');
    t.equal(synced, before + 1);
  },
);
