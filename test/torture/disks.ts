import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  closeSync,
  cpSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statfsSync,
  writeSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { seeded } from '@sepia/test-support/seeded';

const WHOLE = 'size=4g';
/** What a full disk still takes. */
const LEFT_BYTES = 256 * 1024;

/** Lays a file system of its own under a folder, whose size can be set; false where that may not be done. */
export function mountSmallDisk(folder: string): boolean {
  mkdirSync(folder, { recursive: true });
  return mounted(['-t', 'tmpfs', '-o', WHOLE, 'tmpfs', folder]);
}

/** Takes all free space away but a little. */
export function fillDisk(folder: string): boolean {
  const { bsize, blocks, bfree } = statfsSync(folder);
  return mounted(['-o', `remount,size=${(blocks - bfree) * bsize + LEFT_BYTES}`, folder]);
}

export function emptyDisk(folder: string): boolean {
  return mounted(['-o', `remount,${WHOLE}`, folder]);
}

/** Takes the small disk away, with all that is on it. */
export function unmountSmallDisk(folder: string): void {
  execFileSync('umount', [folder], { stdio: 'ignore' });
}

/** Removes all that a member keeps. Its folder stays: it may be a mount. */
export function wipe(folder: string): void {
  for (const name of readdirSync(folder)) rmSync(join(folder, name), { recursive: true, force: true });
}

export function copyFolder(from: string, to: string): void {
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from)) cpSync(join(from, name), join(to, name), { recursive: true });
}

/** Changes bytes of the database of a member, in place. Names the files. */
export function damage(folder: string, seed: number): string[] {
  const chance = seeded(seed);
  const db = join(folder, 'v1', 'db');
  const files = filesBelow(db).filter((file) => /\.ldb$|\.log$|MANIFEST/.test(file));
  const hit = files.filter(() => chance() < 0.5);
  for (const file of hit.length === 0 ? files : hit)
    for (let times = 0; times < 8; times++) flipByte(file, chance());
  return hit;
}

/**
 * Flips a byte in some stored blobs of those that have other copies: what was not acknowledged yet may have none, and
 * is rightly owed for ever then. Their files.
 */
export function rot(
  folder: string,
  seed: number,
  count: number,
  acknowledged: ReadonlySet<string>,
): string[] {
  const chance = seeded(seed);
  const files = filesBelow(join(folder, 'v1', 'blobs'))
    .filter((file) => acknowledged.has(`sha256:${basename(file)}`))
    .sort();
  const hit: string[] = [];
  for (let tries = 0; files.length > 0 && hit.length < count && tries < 20; tries++) {
    const [file] = files.splice(Math.floor(chance() * files.length), 1);
    if (unlessGone(() => flipByte(file!, chance())) === true) hit.push(file!);
  }
  return hit;
}

/** False if a stored blob is there and not what its name says. */
export function isSound(file: string): boolean {
  const bytes = unlessGone(() => readFileSync(file));
  return bytes === undefined || file.endsWith(createHash('sha256').update(bytes).digest('hex'));
}

/** What `look` finds, or undefined: its member runs, and may have taken the file away since it was listed. */
function unlessGone<T>(look: () => T): T | undefined {
  try {
    return look();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return undefined;
  }
}

function flipByte(file: string, where: number): boolean {
  const fd = openSync(file, 'r+');
  try {
    const size = fstatSync(fd).size;
    if (size === 0) return false;
    const at = Math.floor(where * size);
    const byte = Buffer.alloc(1);
    readSync(fd, byte, 0, 1, at);
    byte[0]! ^= 0x55;
    writeSync(fd, byte, 0, 1, at);
    return true;
  } finally {
    closeSync(fd);
  }
}

function filesBelow(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((one) => one.isFile())
    .map((one) => join(one.parentPath, one.name));
}

function mounted(args: readonly string[]): boolean {
  try {
    execFileSync('mount', args, { stdio: 'ignore' });
    return true;
  } catch (error) {
    // Only what mount itself said: not that there is none to run.
    if (typeof (error as { status?: unknown }).status !== 'number') throw error;
    return false;
  }
}
