import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { backoffMs } from '@sepia/base/async/backoff';
import { CodedError } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import { pause, type StopStack } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import type { Metrics } from '@sepia/base/metrics';
import { FLOOR_SPACE } from '@sepia/records/store/floors';
import { RecordStore } from '@sepia/records/store/record-store';
import { claim, ownerName, ownerOf } from '@sepia/records/table/owner';
import type { PostgresTable } from '@sepia/records/table/postgres/postgres-table';
import type { RecordTable } from '@sepia/records/table/record-table';
import type { DataFolder } from '@sepia/store/data-folder';
import { diskFiles } from '@sepia/store/files/disk-files';
import { readWhole, replaceWhole } from '@sepia/store/files/file-port';
import type { DatabaseWrite } from '@sepia/store/level-database';
import type { Members } from '../cluster/members.ts';
import { CLAIM_RETRY_MS, DATABASE_START_MS, MAX_CLAIM_RETRY_MS } from '../deadlines/own.ts';
import type { OwnStanding } from './own-standing.ts';

/** In the data folder: which engine its origin keeps records in, where that is not the embedded one. */
const FILE = 'records-engine';
/** Records that are taken off the disk in one step. */
const FORGET_BATCH = 1_000;
/** Key spaces that move to a shared table; floors first, for they say what is not below them. Which blobs are here, and what is owed, stays with the disk they are on. */
const SPACES = [FLOOR_SPACE, 'r1', 'l1', 't1', 'n1', 'f1', 'p1'];

/** `embedded`: on the origins' own disks, agreed on by majorities. `postgres`: in one shared table. */
export type EngineName = 'embedded' | 'postgres';

/** What records ask of the standing of an origin: whether what it says of them counts. */
export type RecordStanding = Pick<
  OwnStanding,
  'require' | 'requireAll' | 'counts' | 'sender' | 'standing' | 'within'
>;

/** Where the records of this origin rest, and who decides about them. */
export interface RecordEngine {
  readonly records: RecordStore;
  readonly standing: RecordStanding;
  /** The origins as records see them: the owners of the ring; of a shared table each origin alone. */
  seenBy(members: Members): Members;
  /** Resolves when what this origin says of records counts, in this engine. */
  whenCounts(): Promise<void>;
  /** Why records cannot be reached; undefined while they can. */
  readonly away: string | undefined;
  /** Conditions that an operator should look at, such as a table that takes no writes. */
  readonly warnings: readonly string[];
}

interface EngineDeps {
  readonly folder: DataFolder;
  /** Those of the data folder. */
  readonly records: RecordStore;
  readonly standing: OwnStanding;
  /** Of the data folder's records, which may go. */
  readonly digests: { reset(): void; scan(): Promise<void> };
  readonly clusterKey: Uint8Array;
  readonly metrics: Metrics;
  readonly stops: StopStack;
  readonly log: Logger;
}

/**
 * Opens the engine that the config names. A folder whose records rest in another one does not start, unless the
 * operator says that those do not count any more. @throws `START_FAILED`, `CONFIG_INVALID`, `DISK_FORMAT`
 */
export async function openRecordEngine(
  deps: EngineDeps,
  options: {
    readonly config: { readonly engine: EngineName; readonly 'url-file'?: string | undefined };
    readonly acceptLoss: boolean;
  },
): Promise<RecordEngine> {
  const { folder, records, log, stops } = deps;
  const { engine, 'url-file': urlFile } = options.config;
  const kept = await engineOf(folder, engine);
  const isLeft = kept !== engine && kept !== undefined;
  if (isLeft && !options.acceptLoss)
    throw new CodedError('START_FAILED', {
      message: `records.engine is ${engine}, the records of this data folder rest in ${kept}: take them along by "sepia records copy" (docs/records.md says in which order); --accept-loss begins without them`,
      detail: { engine, kept },
    });
  if (engine === 'embedded') {
    if (isLeft) await leaveEngine(deps, kept);
    if (kept === 'postgres') await forgetEngine(folder);
    const { standing } = deps;
    const whenCounts = async (): Promise<void> => await standing.whenSettled();
    return { records, standing, whenCounts, seenBy: (members) => members, away: undefined, warnings: [] };
  }
  const table = await (await postgres()).open(
    { log },
    { url: { file: urlFile!, key: 'records.url-file' }, deadlineMs: DATABASE_START_MS },
  );
  stops.push("records' database", async () => await table.close());
  const found = await checkedOwner(table, deps, options.acceptLoss);
  // Only now: until here nothing says that the other engine can be reached.
  if (isLeft) await leaveEngine(deps, kept);
  if (kept !== 'postgres') await noteEngine(folder);
  const shared = await sharedStanding(table, deps, options.acceptLoss || found !== undefined);
  gauges(deps.metrics, table);
  const sharedRecords = new RecordStore({ table });
  await sharedRecords.floors.load();
  return {
    records: sharedRecords,
    standing: shared.standing,
    seenBy: (members) => members.alone(),
    whenCounts: shared.whenCounts,
    get away() {
      return table.database.state.away ?? shared.lack;
    },
    get warnings() {
      const { noWrites } = table.database.state;
      return noWrites === undefined ? [] : [noWrites];
    },
  };
}

/** Loaded where it is configured alone: other origins are smaller by its library. */
async function postgres(): Promise<typeof PostgresTable> {
  return (await import('@sepia/records/table/postgres/postgres-table')).PostgresTable;
}

/** By the word of the operator the records of the former engine do not count any more. */
async function leaveEngine({ folder, records, digests, log }: EngineDeps, kept: EngineName): Promise<void> {
  log.warn({ kept }, 'begins without the records of the former engine, by the word of the operator');
  await forgetRecords(folder);
  await records.floors.load();
  digests.reset();
  await digests.scan();
}

/** What the data folder's records rest in; undefined of a folder that has none. An embedded origin reads no records for it. */
async function engineOf(folder: DataFolder, wanted: EngineName): Promise<EngineName | undefined> {
  if ((await readWhole(diskFiles, join(folder.dir, FILE))) !== undefined) return 'postgres';
  if (wanted === 'embedded') return 'embedded';
  for (const space of SPACES)
    for await (const _ of folder.db.keys({ gte: `${space}\0`, lt: `${space}\x01`, limit: 1 }))
      return 'embedded';
  return undefined;
}

/** Takes all records off the disk. A second try goes on where a first one ended. */
async function forgetRecords({ db }: DataFolder): Promise<void> {
  for (const space of SPACES) {
    let batch: DatabaseWrite[] = [];
    for await (const key of db.keys({ gte: `${space}\0`, lt: `${space}\x01` })) {
      batch.push({ type: 'del', key });
      if (batch.length < FORGET_BATCH) continue;
      await db.write(batch);
      batch = [];
    }
    if (batch.length > 0) await db.write(batch);
  }
}

async function forgetEngine({ dir }: DataFolder): Promise<void> {
  await rm(join(dir, FILE), { force: true });
  await diskFiles.syncFolder(dir);
}

/** `owner`: as this origin found the records there, so that an empty database is not taken for a new one later. */
async function noteEngine({ dir }: DataFolder, owner = ''): Promise<void> {
  const path = join(dir, FILE);
  const bytes = new TextEncoder().encode(`postgres ${owner}`.trimEnd().concat('\n'));
  await replaceWhole(diskFiles, { path, temporary: `${path}.new`, durable: true }, bytes);
  await diskFiles.syncFolder(dir);
}

/** Whose records this origin found in the database before; undefined: it never found any. */
async function notedOwner({ dir }: DataFolder): Promise<string | undefined> {
  const bytes = await readWhole(diskFiles, join(dir, FILE));
  const owner = Buffer.from(bytes ?? [])
    .toString('utf8')
    .split(/\s+/)[1];
  return owner === '' ? undefined : owner;
}

/**
 * Whose a database is: this cluster's, or nobody's yet. One whose records this origin has seen before is not begun anew,
 * nor is one with records of nobody, which a copy left. @throws `START_FAILED`
 */
async function checkedOwner(
  table: RecordTable,
  { clusterKey, folder }: EngineDeps,
  acceptLoss: boolean,
): Promise<string | undefined> {
  const found = await ownerOf(table);
  if (found !== undefined && found !== ownerName(clusterKey)) throw foreign();
  if (found === undefined) await checkNew(table, (await notedOwner(folder)) !== undefined && !acceptLoss);
  return found;
}

/**
 * What an origin says of shared records counts at once, if they are this cluster's. An empty database becomes that with
 * the first start of the cluster, which needs all origins, or by the word of the operator. `lack`: why none count yet.
 */
async function sharedStanding(
  table: RecordTable,
  { clusterKey, standing, log, folder, stops }: EngineDeps,
  isTaken: boolean,
): Promise<Pick<RecordEngine, 'standing' | 'whenCounts'> & { readonly lack: string | undefined }> {
  const name = ownerName(clusterKey);
  let isOurs = false;
  const take = async (): Promise<void> => {
    if ((await claim(table, name)) !== name) throw foreign();
    await noteEngine(folder, name);
    isOurs = true;
  };
  if (isTaken || standing.isSettled) await take();
  const stopped = new AbortController();
  let taking: Promise<void> | undefined;
  stops.push("claim of the records' database", async () => {
    stopped.abort(new CodedError('DRAINING'));
    await taking;
  });
  const takeInTheEnd = async (): Promise<void> => {
    for (let tries = 1; !isOurs && !stopped.signal.aborted; tries++)
      try {
        await take();
      } catch (error) {
        logFailure(log, error, "the records' database is not claimed yet", { tries }, 'error');
        await pause(backoffMs(tries, CLAIM_RETRY_MS, MAX_CLAIM_RETRY_MS), stopped.signal);
      }
  };
  standing.onChange(() => {
    if (!isOurs && standing.isSettled) taking ??= takeInTheEnd();
  });
  const whenCounts = async (): Promise<void> => {
    if (isOurs) return;
    await standing.whenSettled();
    taking ??= takeInTheEnd();
    await taking;
  };
  const requireAll = (): void => {
    if (!isOurs) throw new CodedError('RECORDS_PENDING', { detail: { origin: standing.standing.id } });
  };
  return {
    standing: {
      require: requireAll,
      requireAll,
      counts: () => isOurs,
      // A change of the ring moves none of them: they are of no epoch.
      within: async (_epoch, work) => await work(),
      get standing() {
        return { ...standing.standing, epoch: 0 };
      },
      get sender() {
        return standing.sender;
      },
    },
    whenCounts,
    get lack() {
      return isOurs ? undefined : "the records' database is not this cluster's yet";
    },
  };
}

/** A database that is nobody's. @throws `START_FAILED` where it has records, or should have */
async function checkNew(table: RecordTable, wasOurs: boolean): Promise<void> {
  for await (const _ of table.keys({}))
    throw new CodedError('START_FAILED', {
      message:
        "the records' database has records, but of no cluster: a copy into it did not end; repeat it until it says that both are the same",
    });
  if (wasOurs)
    throw new CodedError('START_FAILED', {
      message:
        "the records' database is empty, and this origin has seen records in it: let records.url-file name the right one, or restore it; --accept-loss begins without them",
    });
}

function foreign(): CodedError {
  return new CodedError('START_FAILED', {
    message: "the records' database belongs to another cluster: records.url-file must name one of its own",
  });
}

function gauges(metrics: Metrics, { database }: PostgresTable): void {
  metrics.gauge('sepia_origin_records_up', "1 while the records' database answers.", () =>
    database.state.away === undefined ? 1 : 0,
  );
  metrics.gauge('sepia_origin_records_writable', "0 while the records' database takes no writes.", () =>
    database.state.away === undefined && database.state.noWrites === undefined ? 1 : 0,
  );
  metrics.gauge(
    'sepia_origin_records_waiting',
    "Requests that wait for a connection to the records' database.",
    () => database.state.waiting,
  );
  metrics.gauge(
    'sepia_origin_records_retries',
    "Since the start: what was asked of the records' database again, or given up.",
    () => database.state.retries,
  );
}
