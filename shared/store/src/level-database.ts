import { crc32 } from 'node:zlib';
import { CodedError, RAISE_LIMIT, systemCode } from '@sepia/base/errors';
import { ignoreFailure, logFailure, throwIfBug } from '@sepia/base/failure';
import { isOutOfFiles, openFiles } from '@sepia/base/system/open-files';
import { Level } from 'level';
import type { StoreLog } from './blob-files.ts';
import { READERS_MS, REOPEN_MS } from './deadlines.ts';
import { type FreeBytes, freeBytesOf, freeInodesOf } from './disk-room.ts';
import { demandLogs } from './files/level-logs.ts';

/** Free bytes that the database wants before it is opened anew: what its logs hold goes into tables then. */
const ROOM_BYTES = 16 * 1024 * 1024;
/** Before a value: this, and its check in 8 hex digits. No JSON text begins so: values of versions without checks read too. */
const CHECKED = '\u0001';
const CHECK_CHARS = 8;
/**
 * Files that LevelDB holds open. It maps each of its tables, of 2 MiB, so this bounds what the database adds to the memory of a process,
 * to about 160 MiB; by its default of 1,000 it would be 2 GiB. What is not open costs a read some 50 µs more.
 */
const OPEN_FILES = 90;
/** Files that it opens beside each other while it is opened, and as many again for others. */
const OPENING_FILES = 10;
/** Entries that one step of a list takes. */
const STEP_ENTRIES = 256;

/** Keys from … to, in their order. */
export interface KeyRange {
  readonly gt?: string;
  readonly gte?: string;
  readonly lt?: string;
  readonly lte?: string;
  readonly limit?: number;
  readonly snapshot?: Snapshot;
}

/** The database at one moment; whoever made it closes it. It ends when the database is opened anew. */
export type Snapshot = ReturnType<Level<string, string>['snapshot']>;

/** One write of a batch; those of a batch become durable together or not at all. */
export type DatabaseWrite =
  | { readonly type: 'put'; readonly key: string; readonly value: string }
  | { readonly type: 'del'; readonly key: string };

type Files = Pick<
  Level<string, string>,
  'open' | 'close' | 'get' | 'getSync' | 'getMany' | 'iterator' | 'keys' | 'snapshot' | 'batch' | 'location'
>;

interface LevelDatabaseDeps {
  readonly log: StoreLog;
  /** The database under `db/`; open. */
  readonly level: Files;
  /** Monotonic, in ms. */
  readonly nowMs: () => number;
  /** Free bytes of its disk; default: asks the system. */
  readonly freeBytes?: FreeBytes;
  /** Files that this process has open and may have; default: asks the system. */
  readonly openFiles?: typeof openFiles;
}

/**
 * The database of a data folder: keys are UTF-8 text, values JSON text. What a batch acknowledged survives a power loss.
 *
 * LevelDB goes on after a write that failed, behind the torn end of its log: what it says is stored then is gone at
 * the next start (v1.20, `DBImpl::Write`). So a failed write closes this database to writes until it was opened anew,
 * which begins a new log; it is tried with the next write, once the disk has room.
 *
 * Nor does it check what it reads from its tables: each value bears a CRC-32 over key and value (ADR 0048).
 */
export class LevelDatabase {
  readonly #deps: LevelDatabaseDeps;
  readonly #freeBytes: FreeBytes;
  readonly #listeners = new Set<() => void>();
  #torn: CodedError | undefined;
  #lastFailure: CodedError | undefined;
  #isClosed = false;
  #retryAtMs = 0;
  #renewing: Promise<void> | undefined;
  #writing = 0;
  /** Counts failed writes. */
  #failures = 0;
  #damagedReads = 0;
  #readers = 0;
  #whenQuiet: () => void = () => undefined;

  constructor(deps: LevelDatabaseDeps) {
    this.#deps = deps;
    this.#freeBytes = deps.freeBytes ?? (async () => await freeBytesOf(deps.level.location));
  }

  /** Why nothing is written at present, and that damage was read, for `/readyz`; empty if all is well. */
  get warnings(): string[] {
    const damaged = `damaged: records of the database ${this.#deps.level.location} do not read (${this.#damagedReads} reads); restart this member, others hand them over then`;
    return [
      ...(this.#torn === undefined ? [] : [this.#torn.message]),
      ...(this.#damagedReads === 0 ? [] : [damaged]),
    ];
  }

  /** True while nothing is written: a write found no room, or the disk failed. */
  get isTorn(): boolean {
    return this.#torn !== undefined;
  }

  /** Calls `listener` after every new opening: a write that failed may be there, or not. */
  onReopen(listener: () => void): void {
    this.#listeners.add(listener);
  }

  /** @throws `DISK_CORRUPT` for a value that is not what was written; `DISK_FULL`, `DISK_FAILED` while it does not open */
  async get(key: string): Promise<string | undefined> {
    if (this.#isClosed) await this.#renewed();
    return this.#checked(key, await this.#deps.level.get(key));
  }

  /** As {@link get} for several, in their order. */
  async getMany(keys: readonly string[]): Promise<(string | undefined)[]> {
    if (this.#isClosed) await this.#renewed();
    const found = await this.#deps.level.getMany([...keys]);
    return found.map((value, index) => this.#checked(keys[index]!, value));
  }

  /** What is there at this moment, also while others write. @throws what the database says while it is closed */
  snapshot(): Snapshot {
    return this.#deps.level.snapshot();
  }

  /** As {@link get} of a moment before, at once. @throws `DISK_CORRUPT`, what the database says of a snapshot that ended */
  getSync(key: string, options: { readonly snapshot: Snapshot }): string | undefined {
    return this.#checked(key, this.#deps.level.getSync(key, options));
  }

  /** Entries of one moment, in order. @throws as {@link get} */
  async *iterator(range: KeyRange = {}): AsyncGenerator<[string, string], void, void> {
    for await (const [key, value] of this.#list(() => this.#deps.level.iterator(range)))
      yield [key, this.#checked(key, value)];
  }

  /** Keys of one moment, in order. @throws as {@link get} */
  keys(range: KeyRange = {}): AsyncGenerator<string, void, void> {
    return this.#list(() => this.#deps.level.keys(range));
  }

  /**
   * Writes all or nothing, synced. What failed may still be there after a power loss. @throws `DISK_FULL`, `DISK_FAILED`
   * then, and for every write after it until the database was opened anew
   */
  async write(writes: readonly DatabaseWrite[]): Promise<void> {
    if (this.#torn !== undefined) await this.#renewed();
    const failures = this.#failures;
    this.#writing += 1;
    try {
      await this.#deps.level.batch(writes.map(withCheck), { sync: true });
    } catch (error) {
      throwIfBug(error);
      throw this.#tear(error);
    } finally {
      this.#writing -= 1;
      this.#noteQuiet();
    }
    // Beside a write that failed: whether this one stands before the torn end or behind it is not known.
    if (this.#failures !== failures) throw this.#lastFailure;
  }

  /** Writes one record, as {@link write}. */
  async put(key: string, value: string): Promise<void> {
    await this.write([{ type: 'put', key, value }]);
  }

  async close(): Promise<void> {
    await this.#renewing?.catch(ignoreFailure);
    await this.#deps.level.close();
  }

  async *#list<T>(
    open: () => { nextv(size: number): Promise<T[]>; close(): Promise<void> },
  ): AsyncGenerator<T, void, void> {
    if (this.#isClosed) await this.#renewed();
    const list = open();
    this.#readers += 1;
    try {
      for (let step = await list.nextv(STEP_ENTRIES); step.length > 0; step = await list.nextv(STEP_ENTRIES))
        yield* step;
    } finally {
      this.#readers -= 1;
      this.#noteQuiet();
      await list.close();
    }
  }

  #checked<T extends string | undefined>(key: string, stored: T): T {
    if (stored === undefined || !stored.startsWith(CHECKED)) return stored;
    const value = stored.slice(CHECKED.length + CHECK_CHARS);
    if (stored.slice(CHECKED.length, CHECKED.length + CHECK_CHARS) === checkOf(key, value)) return value as T;
    const { location } = this.#deps.level;
    if (this.#damagedReads++ === 0) this.#deps.log.warn({ location, key }, 'a record is damaged on disk');
    throw new CodedError('DISK_CORRUPT', {
      message: `a record of the database ${location} is damaged: look after its disk, then restart this member`,
      detail: { location, key },
    });
  }

  #noteQuiet(): void {
    if (this.#writing === 0 && this.#readers === 0) this.#whenQuiet();
  }

  #tear(error: unknown): unknown {
    const code = systemCode(error);
    // What it says before it touches the disk: the log is whole.
    if (code === 'LEVEL_DATABASE_NOT_OPEN' || code === 'LEVEL_CORRUPTION') return error;
    const { location } = this.#deps.level;
    const reason = (error as Error).message;
    const isFull = /No space left|ENOSPC|quota exceeded/i.test(reason);
    const torn = isFull
      ? new CodedError('DISK_FULL', {
          message: `the database ${location} found no room: make room on its disk; it goes on by itself then`,
          detail: { location },
          cause: error,
        })
      : new CodedError('DISK_FAILED', {
          message: `the database ${location} could not be written (${reason}): ${isOutOfFiles(error) ? RAISE_LIMIT : 'look after its disk'}; it is tried again`,
          detail: { location },
          cause: error,
        });
    if (this.#torn === undefined)
      this.#deps.log.warn(
        { location, reason },
        'a record could not be written; no more are taken until it can',
      );
    this.#failures += 1;
    this.#torn = torn;
    this.#lastFailure = torn;
    return torn;
  }

  /** Opened anew, by one caller for all. @throws why it is not */
  async #renewed(): Promise<void> {
    if (this.#renewing === undefined) {
      if (this.#deps.nowMs() < this.#retryAtMs) throw this.#torn;
      this.#renewing = this.#renew().finally(() => {
        this.#renewing = undefined;
      });
    }
    await this.#renewing;
  }

  async #renew(): Promise<void> {
    const { level, log, nowMs } = this.#deps;
    this.#retryAtMs = nowMs() + REOPEN_MS;
    if (!(await this.#hasRoom())) throw this.#torn;
    await this.#quiet();
    this.#isClosed = true;
    try {
      await level.close();
      await demandLogs(level.location);
      await level.open();
    } catch (error) {
      throwIfBug(error);
      log.warn(
        { location: level.location, reason: String((error as Error).cause ?? error) },
        'database does not open anew',
      );
      throw this.#torn;
    }
    this.#isClosed = false;
    this.#torn = undefined;
    this.#retryAtMs = 0;
    for (const listener of this.#listeners) listener();
    log.info({ location: level.location }, 'database is opened anew and takes records again');
  }

  /** Without descriptors it would be closed and stay so, or pass over a log (see {@link demandLogs}). */
  async #hasRoom(): Promise<boolean> {
    const files = (this.#deps.openFiles ?? openFiles)();
    if (files !== undefined && files.open + OPENING_FILES > files.limit) return false;
    try {
      return (
        (await this.#freeBytes()) >= ROOM_BYTES &&
        (await freeInodesOf(this.#deps.level.location)) >= OPENING_FILES
      );
    } catch (error) {
      logFailure(this.#deps.log, error, 'free bytes of the disk are not known');
      return true;
    }
  }

  /** Resolves when nothing is written or listed, or has had its time. */
  async #quiet(): Promise<void> {
    if (this.#writing === 0 && this.#readers === 0) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#whenQuiet = resolve;
      timer = setTimeout(resolve, READERS_MS);
    });
    clearTimeout(timer);
    this.#whenQuiet = () => undefined;
  }
}

function withCheck(write: DatabaseWrite): DatabaseWrite {
  if (write.type === 'del') return write;
  const { key, value } = write;
  return { ...write, value: `${CHECKED}${checkOf(key, value)}${value}` };
}

function checkOf(key: string, value: string): string {
  return crc32(value, crc32(key)).toString(16).padStart(CHECK_CHARS, '0');
}

/** Opens the database in a folder, making it at the first time. @throws what the database says, and why a log of it cannot be read */
export async function openLevel(path: string): Promise<Level<string, string>> {
  await demandLogs(path);
  const level = new Level<string, string>(path, {
    keyEncoding: 'utf8',
    valueEncoding: 'utf8',
    maxOpenFiles: OPEN_FILES,
  });
  await level.open();
  return level;
}
