import { type Digest, digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { RecordStore } from '@sepia/records/store/record-store';
import { LevelTable } from '@sepia/records/table/level-table';
import type { BlobStore } from '@sepia/store/blob-store';
import { DataFolder } from '@sepia/store/data-folder';
import t, { type Test } from 'tap';
import { BlobIndex } from '../../src/blobs/blob-index.ts';
import { SyncPull } from '../../src/recovery/sync-pull.ts';

const DIGEST = digestOf(Buffer.from('a blob'));

async function withIndex(t: Test, test: (index: BlobIndex) => Promise<void>): Promise<void> {
  const log = silentLogger();
  const folder = await DataFolder.open({ log }, { dir: t.testdir(), id: 'o1' });
  const records = new RecordStore({ table: new LevelTable({ db: folder.db }) });
  await test(await BlobIndex.open({ db: folder.db, records, log }));
  await records.close();
  await folder.close();
}

function storeOf(stat: (digest: Digest) => Promise<unknown>): BlobStore {
  return { stat } as unknown as BlobStore;
}

t.test('a blob that two comparisons find missing at once is wanted once', async (t) => {
  await withIndex(t, async (index) => {
    const empty = storeOf(async () => undefined);
    await Promise.all([index.take(empty, DIGEST, 'o2'), index.take(empty, DIGEST, 'o3')]);
    t.equal(index.wanted, 1);
    await Promise.all([index.added(DIGEST, 6), index.giveUp(DIGEST)]);
    t.equal(index.wanted, 0);
    t.notOk(await index.isWanted(DIGEST));
  });
});

t.test('a blob that came while it was looked for is not wanted', async (t) => {
  await withIndex(t, async (index) => {
    let isHere = false;
    const store = storeOf(async () => {
      if (isHere) return { sizeBytes: 6, attrs: { class: 'pushed' } };
      isHere = true;
      await index.added(DIGEST, 6);
      return undefined;
    });
    t.notOk(await index.take(store, DIGEST, 'o2'));
    t.equal(index.wanted, 0);
  });
});

t.test('a blob that came, and that is still noted as wanted, is waited for no longer', async (t) => {
  await withIndex(t, async (index) => {
    await index.take(
      storeOf(async () => undefined),
      DIGEST,
      'o2',
    );
    t.equal(index.wanted, 1, 'as a kill between the two notes of an arrival leaves it');
    const asked: string[] = [];
    const members = {
      selfId: 'o1',
      ids: ['o1', 'o2'],
      shard: () => ({ epoch: 0, sets: [['o1', 'o2']] }),
      json: async (id: string) => {
        asked.push(id);
        return { owed: 1, lacking: [] };
      },
    };
    const store = storeOf(async () => ({ sizeBytes: 6, attrs: { class: 'pushed' } }));
    const deps = { members, blobs: index, store } as unknown as ConstructorParameters<typeof SyncPull>[0];
    await new SyncPull(deps).askAgain(new AbortController().signal);
    t.equal(index.wanted, 0);
    t.same(asked, [], 'nobody sends it again');
  });
});

t.test('a cached copy that goes while another owner tells of the blob is wanted', async (t) => {
  await withIndex(t, async (index) => {
    const kept: unknown[] = [];
    const store = {
      stat: async () => ({ sizeBytes: 6, attrs: { class: 'cached', writtenBack: true } }),
      setAttrs: async (_digest: Digest, attrs: object) => void kept.push(attrs),
    } as unknown as BlobStore;
    t.ok(await index.take(store, DIGEST, 'o2'), 'it must be sent');
    t.equal(index.wanted, 1);
    for (const attrs of kept) t.same(attrs, { class: 'pushed', writtenBack: false }, 'no eviction takes it');
  });
});

t.test(
  'the index lists all that is pushed, from behind any of it, in whichever turns it is read',
  async (t) => {
    await withIndex(t, async (index) => {
      // Twice what is read in one turn: that neither turn is short says nothing of the end.
      const all = Array.from({ length: 400 }, (_, at) => digestOf(Buffer.from(`blob ${at}`))).sort();
      await Promise.all(all.map(async (digest) => await index.added(digest, 6)));
      const listed = async (after?: Digest): Promise<Digest[]> => {
        const found: Digest[] = [];
        for await (const digest of index.list(after)) found.push(digest);
        return found;
      };
      t.same(await listed(), all);
      t.same(await listed(all[100]), all.slice(101));
      t.same(await listed(all.at(-1)), []);
    });
  },
);

t.test('what is pushed while it is taken out as a cached one stays in the index', async (t) => {
  await withIndex(t, async (index) => {
    await index.added(DIGEST, 6);
    const stat = async (attrs: object): Promise<object> => ({ sizeBytes: 6, attrs });
    const listed = async (): Promise<Digest[]> => {
      const found: Digest[] = [];
      for await (const digest of index.list()) found.push(digest);
      return found;
    };
    await index.unlist(
      storeOf(async () => await stat({ class: 'pushed' })),
      DIGEST,
    );
    t.same(await listed(), [DIGEST]);
    await index.unlist(
      storeOf(async () => await stat({ class: 'cached' })),
      DIGEST,
    );
    t.same(await listed(), []);
  });
});
