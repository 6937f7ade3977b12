import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { basename, isAbsolute } from 'node:path';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug, tryParse } from '@sepia/base/failure';
import { z } from 'zod';

const REFUSAL = z.object({ errors: z.tuple([z.object({ detail: z.object({ file: z.string() }) })]) });
const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
const MOST_BYTES = 100;

/**
 * The token that a snapshotter's 401 (`refusal`: its body) asks for. Whoever listens at `admin` names the file: nothing is sent to it but the
 * text of a token for that port, from a file that is root's or ours alone.
 * @throws {CodedError} `PEER_HTTP`
 */
export async function debugProof(admin: string, refusal: string): Promise<string> {
  const told = tryParse(() => REFUSAL.parse(JSON.parse(refusal)));
  const file = told.ok ? told.value.errors[0].detail.file : '';
  if (!isAbsolute(file) || basename(file) !== 'debug-token')
    throw new CodedError('PEER_HTTP', { message: `${admin} is no snapshotter: it answers 401` });
  const token = await ownText(file);
  const port = /^sepia-debug-(\d+)-[0-9a-f]{64}$/.exec(token ?? '')?.[1];
  if (token === undefined || port === undefined || port !== (new URL(admin).port || '80'))
    throw new CodedError('PEER_HTTP', {
      message: `${admin} asks for ${file}, which is no token of a snapshotter at that port, for root alone`,
    });
  return token;
}

/** Undefined where others may have written it, or may read it. */
async function ownText(path: string): Promise<string | undefined> {
  try {
    await using file = await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    const facts = await file.stat();
    const isOwn = facts.uid === 0 || facts.uid === process.geteuid?.();
    if (!facts.isFile() || !isOwn || (facts.mode & 0o077) !== 0 || facts.size > MOST_BYTES) return undefined;
    return await file.readFile('utf8');
  } catch (error) {
    throwIfBug(error);
    const code = systemCode(error);
    if (code === undefined) throw error;
    throw new CodedError('PEER_HTTP', {
      message: `what the snapshotter shows is told to root of this node alone (${path}: ${code})`,
      cause: error,
    });
  }
}
