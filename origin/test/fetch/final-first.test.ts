import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import type { RepositoryName } from '@sepia/base/names/repository';
import { BlobStore } from '@sepia/store/blob-store';
import { diskFiles } from '@sepia/store/disk-files';
import type { FilePort, OpenFile } from '@sepia/store/file-port';
import { bytesOf } from '@sepia/test-support/seeded';
import { until } from '@sepia/test-support/until';
import type { UpstreamClient } from '@sepia/upstream/upstream-client';
import t from 'tap';
import { Fetch } from '../../src/fetch/fetch.ts';

const SIZE = 3 * 1024 * 1024 + 5;

/** A disk whose files are synced when `synced` says so. */
function slowDisk(synced: Promise<void>): FilePort {
  const slow = (file: OpenFile): OpenFile => ({
    read: (into, at) => file.read(into, at),
    write: (bytes, at) => file.write(bytes, at),
    truncate: (sizeBytes) => file.truncate(sizeBytes),
    sizeBytes: () => file.sizeBytes(),
    close: () => file.close(),
    sync: async () => {
      await synced;
      await file.sync();
    },
  });
  return { ...diskFiles, open: async (path, mode) => slow(await diskFiles.open(path, mode)) };
}

t.test(
  'agents hear that a fetched blob is right before the disk has it, nobody that it is stored',
  async (t) => {
    const disk = Promise.withResolvers<void>();
    const bytes = bytesOf(SIZE, 7);
    const digest = digestOf(bytes);
    const parts = { files: slowDisk(disk.promise), dir: t.testdir(), log: silentLogger(), nowMs: Date.now };
    const store = await BlobStore.open(parts, { durable: true });
    const body = {
      async *lent() {
        for (let at = 0; at < SIZE; at += 60_000) yield Buffer.from(bytes.subarray(at, at + 60_000));
      },
      destroy: () => undefined,
    };
    const client = {
      getBlob: () => Promise.resolve({ status: 'whole', start: 0, sizeBytes: SIZE, body }),
    } as unknown as UpstreamClient;
    const fetch = new Fetch(
      {
        store,
        client,
        room: { require: () => undefined },
        log: silentLogger(),
        nowMs: Date.now,
        events: {
          started: () => undefined,
          landed: () => undefined,
          restarted: () => undefined,
          ended: () => undefined,
        },
        onUpstreamBytes: () => undefined,
      },
      { upstream: 'hub', repository: 'lib/x' as RepositoryName, digest },
      { sizeHint: SIZE, wantAll: true, progressMs: 10_000, lingerMs: 10_000 },
    );
    fetch.start();
    await until(() => fetch.metainfo?.state === 'final', 'final metainfo');
    t.equal(fetch.state, 'running');
    t.equal(await store.has(digest), false);
    disk.resolve();
    await fetch.whenFinal(AbortSignal.timeout(10_000));
    t.ok(await store.has(digest));
    await store.close();
  },
);
