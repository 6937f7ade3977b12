import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { peerIdOf } from '@sepia/base/names/peer-id';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { checkedChunks } from '@sepia/http/bodies/checked-body';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceHash } from '@sepia/metainfo/tree';
import { BlobStore } from '@sepia/store/blob-store';
import { diskFiles } from '@sepia/store/files/disk-files';
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
  { brings, vouches }: { brings: () => Promise<void>; vouches: (name: BlobName) => Promise<void> },
) {
  const log = silentLogger();
  const nowMs = (): number => performance.now();
  const store = await BlobStore.open(
    { files: diskFiles, dir: t.testdir(), log, nowMs: Date.now },
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
      locate: async () => ({
        kind: 'swarm',
        metainfo: Metainfo.decode(METAINFO.encode()),
        intervalMs: 60_000,
        introduce: (swarm) => swarm.setHttpSources([source]),
      }),
      vouch: async () => await vouches(name),
      wantAll: none,
    }) satisfies Partial<ClusterGuide> as unknown as ClusterGuide;
  const rot = { onRotten: none, onMended: none, onUnmended: none };
  const cached = new CachedBlobs({ store, seeds, guideOf, log, onBytes: none, rot });
  const missing = new Proxy({}, { get: () => () => Promise.reject(new Error('not asked')) }) as never;
  const blobs = new BlobTable(
    {
      ...{ store, engine, seeds, guideOf, cached, log, nowMs, hints: new Hints(), gate: new SourceGate(2) },
      ...{ cluster: missing, origins: missing, upstreamClient: missing, dir: 'd', nodeId: 'agent-1' },
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
