import { createHash } from 'node:crypto';
import { type Digest, digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { RecordStore } from '@sepia/records/store/record-store';
import { LevelTable } from '@sepia/records/table/level-table';
import { BlobStore } from '@sepia/store/blob-store';
import { type Database, DataFolder } from '@sepia/store/data-folder';
import { diskFiles } from '@sepia/store/files/disk-files';

const AT_ONCE = 64;
const ROWS_AT_ONCE = 2_000;
const REPOSITORY = 'old/app';

/**
 * Gives an origin that is off, and was on before, a history of pushed blobs of 64 bytes: files, sidecars, the index of them, a link each. By the same
 * store and records that the origin uses; not synced one by one. `say` hears of every tenth.
 */
export async function fillOrigin(
  origin: { readonly dir: string; readonly id: string },
  count: number,
  say: (text: string) => void,
): Promise<void> {
  const log = silentLogger();
  const folder = await DataFolder.open({ log }, origin);
  const store = await BlobStore.open(
    { files: diskFiles, dir: folder.dir, log, nowMs: Date.now },
    { durable: false },
  );
  const attrs = {
    class: 'pushed',
    writtenBack: false,
    provenance: [{ upstream: 'local', repository: REPOSITORY }],
  } as const;
  let next = 0;
  const work = async (): Promise<void> => {
    for (let at = next++; at < count; at = next++) {
      await store.putBytes(digestAt(at), contentAt(at), attrs);
      if (at > 0 && at % Math.ceil(count / 10) === 0) say(`${at} blobs are on the disk`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  await store.close();
  const records = new RecordStore({ table: new LevelTable({ db: folder.db }) });
  await records.blobSet.put([digestAt(0)], { sizeBytes: contentAt(0).length }, 0);
  await records.linkSet.put(['local', REPOSITORY, digestAt(0)], {} as never, 1);
  await writeAlike(folder.db, count);
  await records.close();
  await folder.close();
}

/** As the rows say of the first blob, so of the others. */
async function writeAlike(db: Database, count: number): Promise<void> {
  const first = digestAt(0);
  const rows: (readonly [string, string])[] = [];
  for await (const row of db.iterator()) if (row[0].includes(first)) rows.push(row);
  for (let from = 1; from < count; from += ROWS_AT_ONCE) {
    const digests = Array.from({ length: Math.min(ROWS_AT_ONCE, count - from) }, (_, at) =>
      digestAt(from + at),
    );
    await db.write(
      digests.flatMap((one) =>
        rows.map(([key, value]) => ({ type: 'put' as const, key: key.replace(first, one), value })),
      ),
    );
  }
}

function contentAt(at: number): Buffer {
  return createHash('sha512').update(`blob ${at}`).digest();
}

function digestAt(at: number): Digest {
  return digestOf(contentAt(at));
}
