import { join } from 'node:path';
import { systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { diskFiles } from './disk-files.ts';

const LOG_NAME = /^\d+\.log$/;
const READ_BYTES = 256 * 1024;

/**
 * Refuses a database with a log that the system does not let be read. LevelDB would pass over it, or over the rest of it, say
 * that all is well and remove it (v1.20, `DBImpl::RecoverLogFile`): what was acknowledged last would be gone. `path`: its folder;
 * one that is not there has none. @throws an error with the system's code as that of its cause
 */
export async function demandLogs(path: string): Promise<void> {
  for (const name of await diskFiles.list(path)) {
    if (!LOG_NAME.test(name)) continue;
    try {
      await readThrough(join(path, name));
    } catch (cause) {
      throwIfBug(cause);
      throw unread(name, cause);
    }
  }
}

async function readThrough(path: string): Promise<void> {
  const file = await diskFiles.open(path, 'read');
  try {
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    for (let at = 0, count = READ_BYTES; count === READ_BYTES; at += count)
      count = await file.read(buffer, at);
  } finally {
    await file.close();
  }
}

/** As the database words what it does not open for. */
function unread(name: string, cause: unknown): Error {
  const { message } = cause as Error;
  const code = systemCode((cause as Error).cause) ?? systemCode(cause);
  const why = `its log ${name}, with what was acknowledged last, cannot be read: ${message}`;
  return new Error('the database is not opened', { cause: Object.assign(new Error(why), { code }) });
}
