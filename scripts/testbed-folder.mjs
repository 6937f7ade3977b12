// The folder in which a run of real clients keeps what the test bed starts for it, and one of other tests their files. Plain JS: it must run under Node 20.
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

/** Short, since sockets lie below it. */
const PREFIX = 'sepia-tb-';
/** Which run a folder is of: its process, and when that started, so that another with its number is not taken for it. */
const OWNER = 'run';

/** A folder of this process's run: what a run that was cut off left behind is met by nobody. */
export function openTestbed(parent = '/tmp') {
  const dir = mkdtempSync(join(parent, PREFIX));
  writeFileSync(join(dir, OWNER), `${process.pid} ${startOf(process.pid)}\n`);
  return dir;
}

/**
 * Removes the folders of runs that are over, with what is mounted there. One that a living process has to do with stays: so do
 * folders that no run marked as its own.
 * One that cannot be removed stops nobody: `why` says what is the matter.
 * @returns {{ removed: string[], held: { dir: string, pids: number[], why?: string }[] }}
 */
export function removeDeadTestbeds(parent = '/tmp') {
  const found = { removed: [], held: [] };
  for (const name of readdirSync(parent)) {
    const dir = join(parent, name);
    if (!name.startsWith(PREFIX) || !existsSync(join(dir, OWNER)) || isRunning(dir)) continue;
    const left = closeTestbed(dir);
    if (left === undefined) found.removed.push(dir);
    else found.held.push(left);
  }
  return found;
}

/**
 * Takes a folder away, with what is mounted in it, unless a living process has to do with it.
 * @returns {{ dir: string, pids: number[], why?: string } | undefined} what keeps it, if it stays
 */
export function closeTestbed(dir) {
  const pids = holdersOf(dir);
  if (pids.length > 0) return { dir, pids };
  for (const path of mountedBelow('self', dir).sort().reverse()) spawnSync('umount', ['-l', path]);
  // What is mounted may be anybody's: nothing of it is removed.
  const [left] = mountedBelow('self', dir);
  if (left !== undefined) return { dir, pids, why: `${left} cannot be unmounted` };
  try {
    rmSync(dir, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  } catch (error) {
    return { dir, pids, why: error.message };
  }
  return undefined;
}

/** Whether the run that made it goes on. */
function isRunning(dir) {
  const [pid, start = ''] = read(join(dir, OWNER)).trim().split(' ');
  return start !== '' && startOf(pid) === start;
}

/** Clock tick at which a process started; '' if there is none. */
function startOf(pid) {
  const stat = read(`/proc/${pid}/stat`);
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

/** Processes that were started with the folder's name, stand in it, have files of it open, or mounts of it for themselves. */
function holdersOf(dir) {
  const own = link('/proc/self/ns/mnt');
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => {
      const links = ['cwd', 'root', 'exe', ...files(pid)].map((one) => link(`/proc/${pid}/${one}`));
      if (links.some((path) => path === dir || path.startsWith(`${dir}/`))) return true;
      if (read(`/proc/${pid}/cmdline`).includes(`${dir}/`)) return true;
      return link(`/proc/${pid}/ns/mnt`) !== own && mountedBelow(pid, dir).length > 0;
    })
    .map(Number);
}

function mountedBelow(pid, dir) {
  return read(`/proc/${pid}/mountinfo`)
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '')
    .filter((path) => path.startsWith(`${dir}/`));
}

function files(pid) {
  return gone(() => readdirSync(`/proc/${pid}/fd`).map((fd) => `fd/${fd}`)) ?? [];
}

function read(path) {
  return gone(() => readFileSync(path, 'utf8')) ?? '';
}

function link(path) {
  return gone(() => readlinkSync(path)) ?? '';
}

/** What `look` finds of a process, or undefined where that has ended meanwhile or is none of ours. */
function gone(look) {
  try {
    return look();
  } catch (error) {
    if (!['ENOENT', 'ESRCH', 'EACCES', 'EPERM', 'EINVAL'].includes(error.code)) throw error;
    return undefined;
  }
}
