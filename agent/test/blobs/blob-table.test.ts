import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { peerIdOf } from '@sepia/base/names/peer-id';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { checkedChunks } from '@sepia/http/bodies/checked-body';
import type { BlobSource } from '@sepia/http/bodies/remote-blob';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceHash } from '@sepia/metainfo/tree';
import { BlobStore } from '@sepia/store/blob-store';
import { diskFiles } from '@sepia/store/files/disk-files';
import type { FilePort, OpenFile } from '@sepia/store/files/file-port';
import { SwarmEngine } from '@sepia/swarm/shell/engine';
import { until } from '@sepia/test-support/until';
import { seededBytes } from '@sepia/test-support/upstream/fake-upstream';
import t, { type Test } from 'tap';
import { BlobTable, type Lease } from '../../src/blobs/blob-table.ts';
import { CachedBlobs } from '../../src/blobs/cached-blobs.ts';
import { Hints } from '../../src/blobs/core/hints.ts';
import { Seeds } from '../../src/blobs/seeds.ts';
import type { ClusterGuide } from '../../src/downloads/guide.ts';
import { SourceGate } from '../../src/source/source-gate.ts';

const KEY = Buffer.alloc(32, 1);
const NEVER = new AbortController().signal;
const BYTES = seededBytes(2 * PIECE_BYTES, 'table');
const METAINFO = Metainfo.final(
  digestOf(BYTES),
  BYTES.length,
  Buffer.concat([pieceHash(BYTES.subarray(0, PIECE_BYTES)), pieceHash(BYTES.subarray(PIECE_BYTES))]),
);
const none = (): void => undefined;

function named(repository: string): BlobName {
  return { upstream: 'up', repository: parseRepositoryName(repository), digest: METAINFO.digest };
}

/** A node whose cluster has one blob; `brings` is called for each piece, `vouches` for each name that is to be proven. */
async function node(
  t: Test,
  {
    brings,
    vouches = async () => undefined,
    locates = async () => undefined,
    files = diskFiles,
    hints = new Hints(),
    small,
  }: {
    brings: () => Promise<void>;
    vouches?: (name: BlobName) => Promise<void>;
    /** Called for each name that is asked for first. */
    locates?: (name: BlobName) => Promise<void>;
    files?: FilePort;
    hints?: Hints;
    /** What origins answer for small blobs. */
    small?: () => Promise<Buffer>;
  },
) {
  const log = silentLogger();
  const nowMs = (): number => performance.now();
  const store = await BlobStore.open(
    { files, dir: t.testdir(), log, nowMs: Date.now },
    { durable: false, bootId: 'one', mapDelayMs: 1e6 },
  );
  const engine = new SwarmEngine({ clusterKey: KEY, peerId: peerIdOf('agent-1'), log });
  const book = { touch: () => undefined, drop: none };
  const seeds = new Seeds({ store, engine, book, trackerIds: () => [], log });
  const source = {
    id: 'origin-1',
    has: () => true,
    fetchPiece: async (index: number) => {
      await brings();
      return BYTES.subarray(index * PIECE_BYTES, (index + 1) * PIECE_BYTES);
    },
  };
  const guideOf = (name: BlobName): ClusterGuide =>
    ({
      locate: async () => {
        await locates(name);
        return {
          kind: 'swarm',
          metainfo: Metainfo.decode(METAINFO.encode()),
          intervalMs: 60_000,
          introduce: (swarm) => swarm.setHttpSources([source]),
        };
      },
      vouch: async () => await vouches(name),
      wantAll: none,
      source: () => ({}) as BlobSource,
      holders: () => ({ ids: [], areWhole: true }),
    }) satisfies Partial<ClusterGuide> as unknown as ClusterGuide;
  const rot = { onRotten: none, onMended: none, onUnmended: none };
  const cached = new CachedBlobs({ store, seeds, guideOf, log, onBytes: none, rot });
  const missing = new Proxy({}, { get: () => () => Promise.reject(new Error('not asked')) }) as never;
  const blobs = new BlobTable(
    {
      ...{ store, engine, seeds, guideOf, cached, log, nowMs, hints, gate: new SourceGate(2) },
      ...{ cluster: missing, upstreamClient: missing, dir: 'd', nodeId: 'agent-1' },
      origins: small === undefined ? missing : ({ targets: () => [], small } as never),
      ...{ onBytes: none, onBadPiece: none },
    },
    { backToSource: { mode: 'never', afterMs: 1 }, patience: { progressMs: 60_000, stallMs: 60_000 } },
  );
  t.teardown(async () => {
    seeds.stop();
    await blobs.stop();
    await engine.stop();
    await store.close();
  });
  return { blobs, store };
}

async function bytesOf({ blob }: Lease): Promise<Buffer> {
  const range = { start: 0, end: blob.sizeBytes - 1 };
  const chunks: Uint8Array[] = [];
  for await (const chunk of checkedChunks(blob, range, 60_000, NEVER)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** What was leased can be read no longer. */
async function isClosed({ blob }: Lease): Promise<boolean> {
  return await blob.read(0, new Uint8Array(1), NEVER).then(
    () => false,
    () => true,
  );
}

for (const isStarting of [false, true])
  t.test(
    `a download that ended while another name was proven is read from the cache (${isStarting ? 'it had just been asked for' : 'it ran'})`,
    async (t) => {
      const bring = Promise.withResolvers<void>();
      const proven = Promise.withResolvers<void>();
      const asked = Promise.withResolvers<void>();
      const { blobs, store } = await node(t, {
        brings: () => bring.promise,
        vouches: async () => {
          asked.resolve();
          await proven.promise;
        },
      });
      const first = blobs.get(named('team/one'), NEVER);
      if (!isStarting) await first;
      const second = blobs.get(named('team/two'), NEVER);
      await asked.promise;
      const lease = await first;
      bring.resolve();
      t.ok((await bytesOf(lease)).equals(BYTES));
      lease.release();
      await until(async () => await store.has(METAINFO.digest), 'it is stored');
      await until(() => isClosed(lease), 'nobody has its file open any more');
      proven.resolve();
      const later = await second;
      t.ok((await bytesOf(later)).equals(BYTES));
      later.release();
    },
  );

/** A disk that takes no new files of partials, or no writes and unlinks, once it is said to; and the files that are open. */
function badDisk() {
  const open = new Set<OpenFile>();
  const bad = { create: false, change: false };
  const fail = (path: string): never => {
    throw new CodedError('DISK_FAILED', { detail: { path, system: 'EROFS' } });
  };
  const files: FilePort = {
    ...diskFiles,
    open: async (path, mode) => {
      if (bad.create && mode === 'create' && path.includes('/partial/')) fail(path);
      const file = await diskFiles.open(path, mode);
      const noted: OpenFile = {
        read: (into, at) => file.read(into, at),
        write: async (bytes, at) => (bad.change ? fail(path) : await file.write(bytes, at)),
        truncate: (sizeBytes) => file.truncate(sizeBytes),
        sync: () => file.sync(),
        sizeBytes: () => file.sizeBytes(),
        close: async () => {
          open.delete(noted);
          await file.close();
        },
      };
      open.add(noted);
      return noted;
    },
    unlink: async (path) => (bad.change ? fail(path) : await diskFiles.unlink(path)),
  };
  return { files, open, bad };
}

t.test('a download that a disk does not let begin leaves nothing open', async (t) => {
  const { files, open, bad } = badDisk();
  const { blobs, store } = await node(t, { brings: async () => undefined, files });
  // What an older attempt left here is to be replaced, which the disk refuses.
  const hashes = new Uint8Array(64).fill(9);
  const older = await store.openPartial(METAINFO.digest, BYTES.length, {
    metainfo: Metainfo.final(METAINFO.digest, BYTES.length, hashes),
  });
  bad.create = true;
  const lease = await blobs.get(named('team/one'), NEVER);
  lease.release();
  await older.release();
  await until(() => open.size === 0, 'nobody has it open any more');
});

t.test('a download that ends with its disk leaves nothing open', async (t) => {
  const { files, open, bad } = badDisk();
  const bring = Promise.withResolvers<void>();
  const { blobs } = await node(t, { brings: () => bring.promise, files });
  const lease = await blobs.get(named('team/one'), NEVER);
  t.ok(open.size > 0);
  bad.change = true;
  bring.resolve();
  lease.release();
  await until(() => open.size === 0, 'nobody has it open any more');
});

t.test('a name that was proven when its blob had come is proven again for the next time', async (t) => {
  let bring = Promise.withResolvers<void>();
  let proven = Promise.withResolvers<void>();
  const asked: string[] = [];
  const { blobs, store } = await node(t, {
    brings: () => bring.promise,
    vouches: async ({ repository }) => {
      asked.push(repository);
      await proven.promise;
    },
  });
  const first = await blobs.get(named('team/one'), NEVER);
  const second = blobs.get(named('team/two'), NEVER);
  await until(() => asked.length === 1, 'the second name is being proven');
  bring.resolve();
  await first.blob.whenFinal(NEVER);
  first.release();
  await until(async () => await store.has(METAINFO.digest), 'it is stored');
  await until(() => isClosed(first), 'nobody has its file open any more');
  proven.resolve();
  (await second).release();

  bring = Promise.withResolvers();
  proven = Promise.withResolvers();
  asked.length = 0;
  await store.delete(METAINFO.digest);
  const next = await blobs.get(named('team/one'), NEVER);
  const other = blobs.get(named('team/two'), NEVER);
  await until(() => asked.length === 1, 'nothing is believed of the time before');
  proven.resolve();
  (await other).release();
  next.release();
  bring.resolve();
});

t.test('a small blob waits for no disk, nor does who asks before its file is written', async (t) => {
  const SMALL = Buffer.from('a config');
  const digest = digestOf(SMALL);
  const write = Promise.withResolvers<void>();
  const vouched: string[] = [];
  const hints = new Hints();
  for (const repository of ['team/one', 'team/two'])
    hints.note('up', repository, digest, { sizeBytes: SMALL.length, mediaType: 'application/json' });
  let asked = 0;
  const { blobs, store } = await node(t, {
    brings: async () => undefined,
    vouches: async ({ repository }) => void vouched.push(repository),
    files: {
      ...diskFiles,
      open: async (path, mode) => {
        if (mode === 'create') await write.promise;
        return await diskFiles.open(path, mode);
      },
    },
    hints,
    small: async () => {
      asked += 1;
      return SMALL;
    },
  });
  const isServed = async (repository: string): Promise<boolean> => {
    const lease = await blobs.get({ ...named(repository), digest }, NEVER);
    const bytes = await bytesOf(lease);
    lease.release();
    return bytes.equals(SMALL);
  };
  t.ok(await isServed('team/one'));
  t.ok(await isServed('team/one'));
  t.same(vouched, []);
  t.ok(await isServed('team/two'), 'under another name');
  t.same(vouched, ['team/two'], 'that the cluster vouched for');
  t.equal(asked, 1);
  t.notOk(await store.has(digest));
  write.resolve();
  await blobs.settled(digest);
  t.ok(await store.has(digest));
  t.ok(await isServed('team/one'), 'from the cache');
  t.equal(asked, 1);
});

t.test('what an upstream refuses is no answer to who asked for the blob by another name', async (t) => {
  const refusal = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  const vouched = Promise.withResolvers<void>();
  const located: string[] = [];
  const { blobs } = await node(t, {
    brings: async () => undefined,
    vouches: async () => vouched.resolve(),
    locates: async ({ repository }) => {
      located.push(repository);
      if (repository !== 'team/closed') return;
      asked.resolve();
      await refusal.promise;
    },
  });
  const first = blobs.get(named('team/closed'), NEVER);
  await asked.promise;
  const second = blobs.get(named('team/open'), NEVER);
  await vouched.promise;
  refusal.reject(new CodedError('UPSTREAM_DENIED'));
  await t.rejects(first, { code: 'UPSTREAM_DENIED' });
  const lease = await second;
  t.ok((await bytesOf(lease)).equals(BYTES));
  lease.release();
  t.same(located, ['team/closed', 'team/open']);
});
