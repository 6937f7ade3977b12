import { digestOf } from '@sepia/base/digest';
import { delay } from '@sepia/base/lifecycle';
import { silentLogger } from '@sepia/base/log';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { BlobStore } from '@sepia/store/blob-store';
import { diskFiles } from '@sepia/store/files/disk-files';
import type { Swarm } from '@sepia/swarm/swarm';
import { bytesOf } from '@sepia/test-support/seeded';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { Download } from '../../src/downloads/download.ts';
import type { Finding, Guide } from '../../src/downloads/guide-port.ts';

const BYTES = bytesOf(PIECE_BYTES, 3);
const DIGEST = digestOf(BYTES);
const LATER_MS = 20_000;

/** A download of one piece on a virtual clock, of whose swarm the test says what came. */
async function downloading(t: Test, links: readonly object[]) {
  const deps = { files: diskFiles, dir: t.testdir(), log: silentLogger(), nowMs: () => 1e12 };
  const store = await BlobStore.open(deps, { durable: false, bootId: 'b', mapDelayMs: 1e6 });
  const partial = await store.openPartial(DIGEST, BYTES.length);
  const came = { ownBytes: 0, lineBytes: 0 };
  let nowMs = 0;
  let looks = 0;
  const none = (): (() => void) => () => undefined;
  const swarm = {
    onPiece: none,
    onWantPeers: none,
    openReader: () => ({ move: none, close: none }),
    leave: () => undefined,
    stats: () => ({ links }),
    arrived: () => {
      looks += 1;
      return { ...came };
    },
  } as unknown as Swarm;
  const finding: Finding = { metainfo: partial.metainfo, introduce: none, intervalMs: 60_000 };
  const guide = {
    find: async () => finding,
    poll: async (_known: unknown, _etag: string, signal: AbortSignal) => await delay(60_000, signal),
    fetchedBytes: async () => 0,
  } as unknown as Guide;
  const download = new Download(
    {
      ...{ partial, guide, log: silentLogger(), nowMs: () => nowMs, wantAll: true },
      joinSwarm: () => swarm,
      patience: { progressMs: 10_000, stallMs: 30_000 },
      onBytes: none,
      commit: async () => undefined,
      onVerified: none,
      onDropped: none,
      onSilence: none,
    },
    finding,
  );
  t.teardown(async () => {
    download.end();
    await partial.release();
    await store.close();
  });
  /** So much came, then time passes; resolves once the download has looked twice. */
  const pass = async (bytes: { own: number; others: number }): Promise<void> => {
    came.ownBytes += bytes.own;
    came.lineBytes += bytes.own + bytes.others;
    nowMs += LATER_MS;
    const before = looks;
    await until(() => looks >= before + 3 || download.state === 'failed', 'it has looked');
  };
  return { download, pass };
}

t.test('a download waits while its line brings bytes, and no longer', async (t) => {
  const { download, pass } = await downloading(t, [{}]);
  await pass({ own: 1, others: 0 });
  t.equal(download.state, 'running', 'bytes of it');
  await pass({ own: 0, others: 1 });
  t.equal(download.state, 'running', 'bytes of others, and somebody serves it');
  await pass({ own: 0, others: 0 });
  t.equal(download.state, 'failed');
  t.match(download.error, { code: 'NO_PEERS' });
});

t.test('without peers what others get is no reason to wait', async (t) => {
  const { download, pass } = await downloading(t, []);
  await pass({ own: 0, others: 1 });
  t.equal(download.state, 'failed');
});
