import { randomBytes, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { CodedError, isCoded, RAISE_LIMIT, systemCode, takesNoWrites } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { isOutOfFiles } from '@sepia/base/system/open-files';
import type { StoreLog } from './blob-files.ts';
import { diskFiles } from './files/disk-files.ts';
import { readWhole, replaceWhole } from './files/file-port.ts';
import { LevelDatabase, openLevel } from './level-database.ts';
import { makeFolders } from './make-folders.ts';

/** The disk format that this version reads and writes (`DIR/v1`). */
export const DISK_FORMAT = 1;

const ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
const ENCODING = new TextEncoder();
/** As the system words ENOLCK, ENOSYS, EOPNOTSUPP and EINVAL. */
const NO_LOCKS = /No locks available|not implemented|not supported|Invalid argument/;

/** Roles that have a data folder. */
type FolderRole = 'origin' | 'tracker' | 'agent' | 'accelerator';

/** How the process before this one ended. `reboot`: it did not stop cleanly and the machine was restarted since. */
export type LastStop = 'first-start' | 'clean' | 'killed' | 'reboot';

/** The key-value database that lies in a data folder. */
export type Database = LevelDatabase;

/** The data folder of one member, locked for this process. Close it last. */
export class DataFolder {
  /** `DIR/v1`. */
  readonly dir: string;
  /** The member's persistent id. */
  readonly id: string;
  readonly bootId: string;
  readonly lastStop: LastStop;
  /** The database did not open and was set aside; it began anew, empty. */
  readonly databaseLost: boolean;
  /** Under `db/`; its lock is the folder's lock. */
  readonly db: Database;
  #closing: Promise<void> | undefined;

  private constructor(parts: Pick<DataFolder, 'dir' | 'id' | 'bootId' | 'lastStop' | 'databaseLost' | 'db'>) {
    this.dir = parts.dir;
    this.id = parts.id;
    this.bootId = parts.bootId;
    this.lastStop = parts.lastStop;
    this.databaseLost = parts.databaseLost;
    this.db = parts.db;
  }

  /**
   * Opens and locks `dir`, making it at the first start. `id` is stored then (or a random one if none is
   * configured); later it must be the same, and so must the role. `replacesDatabase`: a database that is damaged is set aside for an empty
   * one, for members that get its content back from others.
   * @throws `START_FAILED` if another process holds the folder or id or role differ, `DISK_FORMAT` if a newer version wrote it, `DISK_FULL`
   */
  static async open(
    deps: { readonly log: StoreLog },
    options: {
      readonly dir: string;
      readonly id?: string;
      readonly role?: FolderRole;
      readonly replacesDatabase?: boolean;
    },
  ): Promise<DataFolder> {
    const { dir, id, role } = options;
    if (id !== undefined && !ID.test(id))
      throw new CodedError('CONFIG_INVALID', { message: `id "${id}" is not valid`, detail: { key: 'id' } });
    await makeFolders(dir, 'data');
    await refuseNewer(dir);
    const root = join(dir, `v${DISK_FORMAT}`);
    await makeFolders(root, 'data');
    await diskFiles.syncFolder(dir);
    const path = join(root, 'db');
    let databaseLost = false;
    const level = await openDatabase(dir, path).catch(async (error: unknown) => {
      if (options.replacesDatabase !== true || !isDamage(error)) throw error;
      const aside = `${path}.damaged-${randomBytes(4).toString('hex')}`;
      deps.log.warn({ reason: (error as Error).message, aside }, 'database is damaged: it is set aside');
      await rename(path, aside);
      databaseLost = true;
      return await openDatabase(dir, path);
    });
    const db = new LevelDatabase({ log: deps.log, level, nowMs: () => performance.now() });
    try {
      const noted = await checkRole(root, dir, role);
      const stored = await settleId(root, dir, id);
      // Last: one that is refused for its id leaves nothing in a folder that says no role yet.
      if (noted === undefined && role !== undefined)
        await replaceSynced(root, join(root, 'role'), `${role}\n`);
      const bootId = readBootId();
      const lastStop = await readLastStop(root, bootId);
      await writeRun(root, { bootId, clean: false });
      deps.log.info({ dir, id: stored, lastStop }, 'data folder opened');
      return new DataFolder({ dir: root, id: stored, bootId, lastStop, databaseLost, db });
    } catch (error) {
      await db.close();
      throw isCoded(error, 'DISK_FULL') ? noRoom(dir, error) : error;
    }
  }

  /** Marks the stop as clean and gives the lock back. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    try {
      await writeRun(this.dir, { bootId: this.bootId, clean: true });
    } catch (error) {
      // Without the mark the next start takes it for killed, and checks more.
      if (!takesNoWrites(error)) throw error;
    } finally {
      await this.db.close();
    }
  }
}

async function refuseNewer(dir: string): Promise<void> {
  for (const name of await diskFiles.list(dir)) {
    const version = /^v(\d+)$/.exec(name)?.[1];
    if (version === undefined || Number(version) <= DISK_FORMAT) continue;
    throw new CodedError('DISK_FORMAT', {
      message: `data folder ${dir} has format ${name}, this version reads v${DISK_FORMAT}: start the version that wrote it, or use an empty folder`,
      detail: { dir, found: name, reads: `v${DISK_FORMAT}` },
    });
  }
}

/**
 * Holds a folder for this process until it is released, or the process is gone however it ends: the operating system
 * keeps the lock, so that a killed process leaves none. @throws {CodedError} `START_FAILED` while another has it
 */
export async function lockFolder(dir: string): Promise<{ release(): Promise<void> }> {
  const db = await openDatabase(dir, join(dir, 'lock'));
  return { release: () => db.close() };
}

async function openDatabase(dir: string, path: string): ReturnType<typeof openLevel> {
  try {
    return await openLevel(path);
  } catch (cause) {
    throwIfBug(cause);
    const reason = systemCode((cause as Error).cause) ?? systemCode(cause) ?? 'unknown';
    if (/No space left|ENOSPC|quota exceeded/i.test(String(((cause as Error).cause as Error)?.message)))
      throw noRoom(dir, cause);
    const message =
      reason === 'LEVEL_LOCKED'
        ? lockedText(dir, String(((cause as Error).cause as Error).message))
        : `database ${path} does not open (${reason}): ${String(((cause as Error).cause as Error)?.message ?? cause)}${isOutOfFiles(cause) ? `; ${RAISE_LIMIT}` : ''}`;
    throw new CodedError('START_FAILED', { message, detail: { dir, reason }, cause });
  }
}

/** Who asks for a lock is refused by its holder, or by a file system that has none. */
function lockedText(dir: string, said: string): string {
  return NO_LOCKS.test(said)
    ? `data folder ${dir} lies on a file system without locks (${said}): configure another \`data\`, on a local disk`
    : `data folder ${dir} is in use by another process: stop it, or configure another \`data\``;
}

/** Nobody else holds the files, but they do not read, or one that others name is gone. */
function isDamage(error: unknown): boolean {
  if (!isCoded(error, 'START_FAILED')) return false;
  const { reason } = error.detail;
  // Level knows a failed read by its words alone; what failed otherwise may read the next time.
  return reason === 'LEVEL_CORRUPTION' || (reason === 'LEVEL_IO_ERROR' && /No such file/.test(error.message));
}

function noRoom(dir: string, cause: unknown): CodedError {
  return new CodedError('DISK_FULL', {
    message: `the disk of data folder ${dir} is full: make room on it, or give it a larger one, then start again`,
    detail: { dir },
    cause,
  });
}

async function settleId(root: string, dir: string, configured: string | undefined): Promise<string> {
  const path = join(root, 'id');
  const stored = await textOf(path);
  if (stored === undefined) {
    const id = configured ?? randomBytes(8).toString('hex');
    await replaceSynced(root, path, `${id}\n`);
    return id;
  }
  if (configured === undefined || configured === stored) return stored;
  throw new CodedError('START_FAILED', {
    message: `\`id\` is "${configured}", but data folder ${dir} belongs to "${stored}": set \`id: ${stored}\`, or give this member a folder of its own`,
    detail: { key: 'id', configured, stored, dir },
  });
}

/** The role on record. A member without an id of its own would take that of any other for its own. */
async function checkRole(
  root: string,
  dir: string,
  role: FolderRole | undefined,
): Promise<string | undefined> {
  const noted = await textOf(join(root, 'role'));
  const stored = noted ?? (await formerRole(root));
  if (role !== undefined && stored !== undefined && stored !== role)
    throw new CodedError('START_FAILED', {
      message: `data folder ${dir} belongs to another role (${stored}), this member is of role ${role}: give each a folder of its own`,
      detail: { key: 'data', role, stored, dir },
    });
  return noted;
}

/** Versions before this one left no role: an origin's folder is known by its `standing`. */
async function formerRole(root: string): Promise<string | undefined> {
  return (await textOf(join(root, 'standing'))) === undefined ? undefined : 'origin';
}

/** Undefined where there is no such file, or nothing in it. */
async function textOf(path: string): Promise<string | undefined> {
  const bytes = await readWhole(diskFiles, path);
  return bytes === undefined ? undefined : Buffer.from(bytes).toString('utf8').trim() || undefined;
}

async function readLastStop(root: string, bootId: string): Promise<LastStop> {
  const bytes = await readWhole(diskFiles, join(root, 'run'));
  if (bytes === undefined) return 'first-start';
  const run = parseRun(Buffer.from(bytes).toString('utf8'));
  if (run?.clean === true) return 'clean';
  return run?.bootId === bootId ? 'killed' : 'reboot';
}

function parseRun(text: string): { bootId?: unknown; clean?: unknown } | null {
  try {
    return JSON.parse(text) as { bootId?: unknown; clean?: unknown } | null;
  } catch (error) {
    throwIfBug(error);
    return null;
  }
}

async function writeRun(root: string, run: { bootId: string; clean: boolean }): Promise<void> {
  await replaceSynced(root, join(root, 'run'), JSON.stringify({ v: 1, ...run }));
}

async function replaceSynced(root: string, path: string, text: string): Promise<void> {
  const temporary = `${path}.${randomBytes(4).toString('hex')}`;
  await replaceWhole(diskFiles, { path, temporary, durable: true }, ENCODING.encode(text));
  await diskFiles.syncFolder(root);
}

/** Changes with every boot of the machine; where the system has none, with every start of the process. */
function readBootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch (error) {
    throwIfBug(error);
    return randomUUID();
  }
}
