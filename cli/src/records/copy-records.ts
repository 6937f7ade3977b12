import { CodedError, isCoded } from '@sepia/base/errors';
import { H_RECORDS } from '@sepia/cluster/api/headers';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { PROXY } from '@sepia/cluster/api/proxy';
import { to } from '@sepia/cluster/api/route';
import { canonicalJson } from '@sepia/records/core/join';
import { RECORD_SPACES, type RecordSpace, shardOfRecord } from '@sepia/records/core/record-space';
import { type DumpedRecord, parsedRecord } from '@sepia/records/store/record-dump';
import { claim, ownerName, ownerOf } from '@sepia/records/table/owner';
import type { RecordTable } from '@sepia/records/table/record-table';
import { answering, mergedRecords } from '../backup/backup.ts';
import { putKnown } from '../backup/restore.ts';
import { RING_MS } from '../deadlines.ts';
import type { Operator } from '../operator/operator.ts';
import { differences } from './compare-records.ts';

const BATCH = 500;
/** Keys of records that differ which are named. */
const NAMED = 5;

type Counts = Readonly<Partial<Record<RecordSpace, number>>>;
type Read = (space: RecordSpace) => AsyncIterable<DumpedRecord>;
type Write = (space: RecordSpace, records: readonly DumpedRecord[]) => Promise<unknown>;

interface CopyDeps {
  /** Of a cluster whose origins run with the embedded engine, and whose proxies do not run. */
  readonly operator: Operator;
  readonly table: RecordTable;
  readonly clusterKey: Uint8Array;
}

/**
 * Copies the records of the origins to a database that is nobody's, and makes it the cluster's once both say the same.
 * @throws {CodedError} `CONFLICT` while proxies run or where both differ in the end, `START_FAILED` for a database or
 * origins that are not as they must be, `QUORUM_LOST`
 */
export async function copyToTable({ operator, table, clusterKey }: CopyDeps): Promise<Counts> {
  await checkIdle(operator);
  if ((await ownerOf(table)) !== undefined)
    throw refusal("the database is a cluster's already: records are copied to one that nobody uses");
  const read = await originsOf(operator);
  const counts = await copy(read, async (space, records) => {
    const texts = new Map(records.map(({ key, stored }) => [`${space}\0${key}`, canonicalJson(stored)]));
    const writes = [...texts].map(([key, value]) => ({ type: 'put' as const, key, value }));
    await table.change([...texts.keys()], () => ({ writes, answer: undefined }));
  });
  await compare(read, readerOf(table));
  await checkIdle(operator);
  await claim(table, ownerName(clusterKey));
  return counts;
}

/** Copies the records of the cluster's database to its origins, and compares both. @throws as {@link copyToTable} */
export async function copyFromTable({ operator, table, clusterKey }: CopyDeps): Promise<Counts> {
  await checkIdle(operator);
  if ((await ownerOf(table)) !== ownerName(clusterKey))
    throw refusal("the database does not hold this cluster's records");
  const origins = await originsOf(operator);
  const read = readerOf(table);
  const counts = await copy(read, async (space, records) => {
    if ((await putKnown(operator, space, records)) === records.length) return;
    throw refusal('there are records of upstreams that the cluster document does not have');
  });
  await compare(read, origins);
  await checkIdle(operator);
  return counts;
}

async function copy(read: Read, write: Write): Promise<Counts> {
  const counts: Partial<Record<RecordSpace, number>> = {};
  for (const space of RECORD_SPACES) {
    let batch: DumpedRecord[] = [];
    const put = async (): Promise<void> => {
      if (batch.length > 0) await write(space, batch);
      counts[space] = (counts[space] ?? 0) + batch.length;
      batch = [];
    };
    for await (const record of read(space)) {
      batch.push(record);
      if (batch.length >= BATCH) await put();
    }
    await put();
  }
  return counts;
}

async function compare(from: Read, target: Read): Promise<void> {
  const found: string[] = [];
  let count = 0;
  for (const space of RECORD_SPACES)
    for await (const key of differences(space, from(space), target(space))) {
      count += 1;
      if (found.length < NAMED) found.push(`${space} ${key.replaceAll('\0', ' ')}`);
    }
  if (count === 0) return;
  throw new CodedError('CONFLICT', {
    message: `${count} records are not the same on both sides (${found.join('; ')}): somebody wrote meanwhile, or there were others before; begin again with an empty one`,
  });
}

/** Who pushes and pulls tags does it through proxies: while one answers, records may change. */
async function checkIdle(operator: Operator): Promise<void> {
  for (const { id } of operator.cluster.members('proxy')) {
    const isUp = await operator
      .ask(id, { ...to(PROXY.status, { self: '1' }), headersTimeoutMs: RING_MS })
      .then(
        () => true,
        (error: unknown) => {
          if (isCoded(error, 'PEER_HTTP') && error.detail['status'] === undefined) return false;
          throw error;
        },
      );
    if (isUp)
      throw new CodedError('CONFLICT', {
        message: `${id} runs: stop all proxies, so that nobody writes while records are copied`,
      });
  }
}

/** Reads what the origins keep, once it is clear that they keep it themselves. */
async function originsOf(operator: Operator): Promise<Read> {
  const { ids } = await answering(operator);
  for (const id of ids)
    try {
      const call = to(ORIGIN_RECORDS.backup, { space: 'n1', limit: 1 });
      await operator.ask(id, { ...call, headers: { [H_RECORDS]: 'embedded' } });
    } catch (cause) {
      if (!isCoded(cause, 'RECORDS_PENDING')) throw cause;
      throw refusal(
        `${id} does not keep records itself: origins must run with records.engine embedded`,
        cause,
      );
    }
  return (space) => ofRepositories(space, mergedRecords(operator, ids, space));
}

function readerOf(table: RecordTable): Read {
  const read = async function* (space: RecordSpace): AsyncGenerator<DumpedRecord, void, void> {
    for await (const [key, text] of table.entries({ gte: `${space}\0`, lt: `${space}\x01` }))
      yield { key: key.slice(space.length + 1), stored: parsedRecord(key, text) };
  };
  return (space) => ofRepositories(space, read(space));
}

/** What belongs to one origin alone, or to nobody, is not copied. */
async function* ofRepositories(
  space: RecordSpace,
  records: AsyncIterable<DumpedRecord>,
): AsyncGenerator<DumpedRecord, void, void> {
  for await (const record of records) if (shardOfRecord(space, record.key) !== undefined) yield record;
}

function refusal(message: string, cause?: unknown): CodedError {
  return new CodedError('START_FAILED', { message, ...(cause === undefined ? {} : { cause }) });
}
