import { readFile, rm } from 'node:fs/promises';
import { systemCode } from '@sepia/base/errors';
import { tryParse } from '@sepia/base/failure';
import { diskFiles } from '@sepia/store/files/disk-files';
import { replaceWhole } from '@sepia/store/files/file-port';
import type { z } from 'zod';

/** Replaces a file by a value as JSON, whole or not at all; with `durable` it is synced first (not the folder). @throws {CodedError} `DISK_FULL` */
export async function writeJson(path: string, value: unknown, durable: boolean): Promise<void> {
  // One that was killed left its own.
  await rm(`${path}.new`, { force: true });
  const text = Buffer.from(JSON.stringify(value));
  await replaceWhole(diskFiles, { path, temporary: `${path}.new`, durable }, text);
}

/** What a file holds; undefined where there is none, or something else is in it. @throws what the disk says */
export async function readJson<T>(path: string, schema: z.ZodType<T>): Promise<T | undefined> {
  try {
    const text = await readFile(path, 'utf8');
    const read = tryParse(() => schema.parse(JSON.parse(text)));
    return read.ok ? read.value : undefined;
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    return undefined;
  }
}
