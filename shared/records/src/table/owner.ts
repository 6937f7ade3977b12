import { createHash } from 'node:crypto';
import type { RecordTable } from './record-table.ts';

/** In a shared table: whose records they are. */
const OWNER_KEY = 'm1\0cluster';

/** How a cluster is called in a shared table; says nothing of its key. */
export function ownerName(clusterKey: Uint8Array): string {
  return createHash('sha256').update('records of\n').update(clusterKey).digest('hex').slice(0, 32);
}

/** Whose records are in a shared table; undefined: nobody's yet. */
export async function ownerOf(table: RecordTable): Promise<string | undefined> {
  return await table.get(OWNER_KEY);
}

/** Makes a shared table that of `name` if it is nobody's; returns whose it is then. */
export async function claim(table: RecordTable, name: string): Promise<string> {
  return await table.change([OWNER_KEY], ([found]) => ({
    writes: found === undefined ? [{ type: 'put', key: OWNER_KEY, value: name }] : [],
    answer: found ?? name,
  }));
}
