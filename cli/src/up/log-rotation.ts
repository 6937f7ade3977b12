import { copyFile, rename, rm, stat, truncate } from 'node:fs/promises';
import { ignoreFailure, throwIfBug } from '@sepia/base/failure';
import { LOG_LOOK_MS } from '../deadlines.ts';

/** A log beyond this is set aside, in bytes; with the one before, a member's logs take about twice as much. */
const MAX_LOG_BYTES = 64 * 1024 * 1024;

/**
 * Sets a log that is too long aside as `FILE.1`. Its writer has it open to append, so it goes on in the same file; a line
 * that it writes at this very moment is lost. True if it was; a disk without room, or no such file, changes nothing.
 */
export async function rotateLog(file: string, maxBytes = MAX_LOG_BYTES): Promise<boolean> {
  const aside = `${file}.1`;
  const copy = `${aside}.tmp`;
  try {
    if ((await stat(file)).size <= maxBytes) return false;
    await copyFile(file, copy);
    await rename(copy, aside);
    await truncate(file, 0);
    return true;
  } catch (error) {
    throwIfBug(error);
    await rm(copy, { force: true }).catch(ignoreFailure);
    return false;
  }
}

/** Keeps the logs of a running cluster short, until it is stopped. */
export function rotateLogs(
  files: readonly string[],
  maxBytes = MAX_LOG_BYTES,
  lookMs = LOG_LOOK_MS,
): () => void {
  let isBusy = false;
  const look = async (): Promise<void> => {
    if (isBusy) return;
    isBusy = true;
    try {
      for (const file of files) await rotateLog(file, maxBytes);
    } finally {
      isBusy = false;
    }
  };
  const timer = setInterval(() => void look(), lookMs);
  timer.unref();
  return () => clearInterval(timer);
}
