import type { RecordSpace } from '@sepia/records/core/record-space';
import { type DumpedRecord, type DumpPage, laterRecord } from '@sepia/records/store/record-dump';
import type { TestCluster } from './cluster.ts';

/**
 * Records of a space as a backup has them: of all origins, of each key the one that counts. One origin alone may lack what
 * was acknowledged a moment ago, which two of three have.
 */
export async function backupOf(c: TestCluster, space: RecordSpace): Promise<readonly DumpedRecord[]> {
  const found = new Map<string, unknown>();
  for (const id of c.origins.keys()) {
    const { status, bytes } = await c.get(id, `/v1/backup/${space}`);
    if (status !== 200) throw new Error(`backup: ${status} ${bytes}`);
    for (const { key, stored } of (JSON.parse(bytes.toString()) as DumpPage).entries)
      found.set(key, found.has(key) ? laterRecord(space, found.get(key), stored) : stored);
  }
  return [...found].map(([key, stored]) => ({ key, stored }));
}

/** Puts records of a backup back, at one origin. */
export async function restoreAt(
  c: TestCluster,
  id: string,
  space: RecordSpace,
  entries: readonly DumpedRecord[],
): Promise<void> {
  const body = JSON.stringify({ space, entries });
  const headers = { 'content-type': 'application/json' };
  const { status, bytes } = await c.call(id, { method: 'POST', path: '/v1/restore', body, headers });
  if (status !== 200) throw new Error(`restore: ${status} ${bytes}`);
}
