import { randomBytes } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import type { DebugProof } from '@sepia/http/admin';

/**
 * A new token for `/debug/` in a file that root alone reads: what is asked there names private images and files in them.
 * It says which port it is for, so that the CLI gives it to no other.
 */
export async function makeDebugProof(data: string, listen: string): Promise<DebugProof> {
  const file = resolve(data, 'debug-token');
  const port = listen.slice(listen.lastIndexOf(':') + 1);
  const token = `sepia-debug-${port}-${randomBytes(32).toString('hex')}`;
  await rm(file, { force: true });
  await writeFile(file, token, { mode: 0o600, flag: 'wx' });
  return { file, token };
}
