import { randomBytes } from 'node:crypto';
import { rename, rm, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { DebugProof } from '@sepia/http/admin';

/**
 * A new token for `/debug/` in a file that root alone reads: what is asked there names private images and files in them.
 * It says which port it is for, so that the CLI gives it to no other. Where it cannot be written, as on a full disk,
 * layers are served all the same, and nobody is told what is asked there until the next start. Who reads the file sees
 * the former token or this one, whole.
 */
export async function makeDebugProof(data: string, listen: string, log: Logger): Promise<DebugProof> {
  const file = resolve(data, 'debug-token');
  const port = listen.slice(listen.lastIndexOf(':') + 1);
  const token = `sepia-debug-${port}-${randomBytes(32).toString('hex')}`;
  try {
    const fresh = `${file}.new`;
    await rm(fresh, { force: true });
    await writeFile(fresh, token, { mode: 0o600, flag: 'wx' });
    await rename(fresh, file);
  } catch (error) {
    logFailure(log, error, '/debug answers nobody until the next start: its token is not written', { file });
  }
  return { file, token };
}
