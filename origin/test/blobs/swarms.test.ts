import { Bitfield } from '@sepia/base/bitfield';
import { type Digest, digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { SMALL_BLOB_BYTES } from '@sepia/cluster/api/join';
import { Metainfo } from '@sepia/metainfo/metainfo';
import type { BlobHandle } from '@sepia/store/blob-handle';
import type { BlobStore } from '@sepia/store/blob-store';
import type { JoinInit, Swarm } from '@sepia/swarm/swarm';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { Swarms } from '../../src/blobs/swarms.ts';
import { TIGHT_IDLE_MS } from '../../src/deadlines/own.ts';
import type { FetchView } from '../../src/fetch/fetch-parts.ts';

const metainfoOf = (text: string, sizeBytes = 300_000): Metainfo =>
  Metainfo.final(digestOf(Buffer.from(text)), sizeBytes, Buffer.alloc(32, 1));

/** Swarms over an engine and a store that note what is done to them; `has`: the blobs that open. */
function swarmsOf(t: Test, has: (digest: Digest) => boolean) {
  const joined = new Map<Digest, JoinInit>();
  const left: Digest[] = [];
  let open = 0;
  let nowMs = 0;
  const swarms = new Swarms(
    {
      engine: {
        join: (init) => {
          joined.set(init.digest, init);
          return { onBadPiece: () => () => {}, leave: () => left.push(init.digest) } as unknown as Swarm;
        },
      },
      store: {
        open: async (digest: Digest) => {
          if (!has(digest)) return undefined;
          open += 1;
          const close = async (): Promise<void> => {
            open -= 1;
          };
          return { close } as unknown as BlobHandle;
        },
      } as unknown as BlobStore,
      log: silentLogger(),
      nowMs: () => nowMs,
    },
    { idleMs: 600_000 },
  );
  t.teardown(async () => await swarms.stop());
  const pass = (ms: number): void => {
    nowMs += ms;
  };
  return { swarms, joined, left, opened: () => open, pass };
}

t.test('of too many swarms that is left which nobody asked about for longest', async (t) => {
  const { swarms, left, opened } = swarmsOf(t, () => true);
  const all = Array.from({ length: 1_025 }, (_, at) => metainfoOf(`blob ${at}`));
  for (const metainfo of all.slice(0, -1)) swarms.seed(metainfo);
  swarms.seed(all[0]!);
  t.same(left, []);
  swarms.seed(all.at(-1)!);
  t.same(left, [all[1]!.digest]);
  t.equal(swarms.size, 1_024);
  await until(() => opened() === 1_024, 'its blob is closed');
});

t.test('a blob that is handed out in one GET has no swarm, one a byte longer has', async (t) => {
  const { swarms, joined } = swarmsOf(t, () => true);
  swarms.seed(metainfoOf('small', SMALL_BLOB_BYTES));
  t.equal(swarms.size, 0);
  const longer = metainfoOf('longer', SMALL_BLOB_BYTES + 1);
  swarms.seed(longer);
  t.same([...joined.keys()], [longer.digest]);
  const fetched = (metainfo: Metainfo): FetchView =>
    ({ name: { digest: metainfo.digest }, metainfo, have: new Bitfield(1) }) as unknown as FetchView;
  swarms.started(fetched(metainfoOf('small', SMALL_BLOB_BYTES)), true);
  t.equal(swarms.size, 1, 'nor while it is fetched');
});

t.test('a swarm whose blob went before it was opened is left again, and has no bytes', async (t) => {
  const { swarms, joined, left } = swarmsOf(t, () => false);
  const metainfo = metainfoOf('gone');
  const { digest } = metainfo;
  swarms.seed(metainfo);
  const read = joined.get(digest)!.pieces.readPiece(0, 0, 10, Buffer.alloc(10));
  await t.rejects(read, { code: 'BLOB_UNKNOWN' });
  t.same(left, [digest]);
  t.equal(swarms.size, 0);
  swarms.seed(metainfo);
  t.equal(swarms.size, 1, 'it is tried again when it is asked for again');
});

t.test('where room is lacking, swarms that nobody asks about are left sooner', async (t) => {
  const { swarms, left, opened, pass } = swarmsOf(t, () => true);
  const [quiet, asked] = [metainfoOf('quiet'), metainfoOf('asked')];
  for (const metainfo of [quiet, asked]) swarms.seed(metainfo);
  await until(() => opened() === 2, 'both are open');
  pass(TIGHT_IDLE_MS);
  swarms.seed(asked);
  swarms.makeRoom();
  t.same(left, [], 'trackers ask again within that time');
  pass(1);
  swarms.makeRoom();
  t.same(left, [quiet.digest]);
  await until(() => opened() === 1, 'its blob is closed, and may go');
});
