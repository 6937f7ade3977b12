import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { isCoded, RAISE_LIMIT, systemCode } from './errors.ts';
import { ended, isBug, throwIfBug } from './failure.ts';
import { isObject } from './json/plain-object.ts';
import type { Stoppable } from './lifecycle.ts';
import { giveMemoryBack } from './memory/give-back.ts';

/** Exit code for a start that is refused: bad config, taken port, wrong data folder. */
const EXIT_REFUSED = 2;
/** How often it is looked whether the supervisor is still there: each look wakes a member that may have nothing to do. */
const SUPERVISOR_POLL_MS = 2_000;

/** Among the arguments of a service: its process ends once its sources are loaded, and the next one finds them compiled. */
export const COMPILE = '--compile';

/**
 * Runs a service as a process: one line on standard error and exit 2 when it cannot start; SIGTERM and SIGINT
 * stop it, drained, with exit 0, or 1 and a line for each part that could not (a full disk); SIGHUP reloads the config where the service can; SIGUSR1 and SIGUSR2 do nothing; an
 * unhandled rejection or exception ends it with exit 1. What the start and bursts left in memory is given back within a minute. With
 * `SEPIA_SUPERVISOR=<pid>` in the environment it also stops when that process is gone.
 */
export async function runService(service: string, start: () => Promise<Service>): Promise<void> {
  if (process.argv.includes(COMPILE)) process.exit(0);
  process.on('unhandledRejection', (reason) => crash(service, 'unhandled rejection', reason));
  process.on('uncaughtException', (error) => crash(service, 'uncaught exception', error));
  let running: Service | undefined;
  let stopping = false;
  const stop = (): void => {
    if (stopping) return;
    stopping = true;
    clearInterval(watch);
    void (async () => {
      try {
        await running?.stop();
      } catch (error) {
        sayStopFailed(service, error);
        process.exit(1);
      }
      process.exit(0);
    })();
  };
  // Node's own: a debugger that anybody on this machine may attach to, and the end of the process.
  for (const signal of ['SIGUSR1', 'SIGUSR2'] as const) process.on(signal, () => undefined);
  process.on('SIGHUP', () => void reload(service, running));
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);
  const watch = watchSupervisor(stop);
  try {
    running = await start();
    giveMemoryBack();
  } catch (error) {
    clearInterval(watch);
    const refusal = refusalOf(error);
    say(`sepia ${service}: ${refusal ?? (error as Error)?.stack ?? String(error)}\n`);
    process.exit(refusal === undefined ? 1 : EXIT_REFUSED);
  }
}

/** What is refused, by us or by the system, in one line; undefined for any other error. */
function refusalOf(error: unknown): string | undefined {
  if (isCoded(error)) {
    const { path } = error.detail;
    const where = typeof path === 'string' && !error.message.includes(path) ? ` (${path})` : '';
    return `${error.code}: ${error.message}${where}`;
  }
  if (!(error instanceof Error) || !('syscall' in error)) return undefined;
  return `START_FAILED: ${error.message}${REFUSED_BY_SYSTEM[systemCode(error) ?? ''] ?? ''}`;
}

/** What to do where the system refuses a file. */
const REFUSED_BY_SYSTEM: Readonly<Record<string, string>> = {
  EACCES: '; give it to the user that this runs as (chown), with its folder',
  EPERM: '; give it to the user that this runs as (chown), with its folder',
  EROFS: '; its file system is mounted read-only',
  EMFILE: `; ${RAISE_LIMIT}`,
};

/** The value of `--config FILE`, or exits with a usage line. */
export function configArgument(service: string): string {
  const at = process.argv.indexOf('--config');
  const file = at === -1 ? undefined : process.argv[at + 1];
  if (file === undefined || file === '') {
    say(`usage: sepia ${service} --config FILE\n`);
    process.exit(EXIT_REFUSED);
  }
  return file;
}

/** A service that is reloaded by SIGHUP: `reload` returns what there is to say. */
export interface Service extends Stoppable {
  reload?(): string | Promise<string>;
}

/** A service that takes a new config while it runs. */
export interface Adjustable<C> extends Stoppable {
  adjust(config: C): void;
}

/** What a service is started and reloaded by. */
interface Reloading<C> {
  readonly load: () => C;
  /** Refuses a config as `start` does, with the files that it names. */
  readonly check: (config: C) => unknown;
  readonly start: (config: C) => Promise<Adjustable<C>>;
}

/** Keys of files that members read at their start, and not again. */
const READ_AT_START = ['cluster-document', 'cluster-key-file', 'node-secret-file'] as const;

/**
 * Starts a service from its config and reads that again at SIGHUP; what a start would refuse changes nothing. `inForce`: the
 * keys that it then adjusts by, `part.key` for those of a section; what else has changed since the start, or stands in a file that
 * is read at a start alone, counts after a restart, and is named. One reload at a time: what was read last is in force last.
 */
export async function reloadable<C extends object>(
  { load, check, start }: Reloading<C>,
  inForce: readonly string[],
): Promise<Service> {
  let config = load();
  const begun = withFiles(config);
  const running = await start(config);
  let last: Promise<string> | undefined;
  const reload = async (): Promise<string> => {
    const next = load();
    await check(next);
    running.adjust(next);
    const now = changedKeys(config, next).filter((key) => inForce.includes(key));
    const later = changedKeys(begun, withFiles(next)).filter((key) => !inForce.includes(key));
    config = next;
    return `config reloaded; in force: ${now.join(', ') || 'nothing new'}${
      later.length === 0 ? '' : `; after a restart: ${later.join(', ')}`
    }`;
  };
  return {
    stop: async () => await running.stop(),
    reload: async () => {
      last = ended(last).then(reload);
      return await last;
    },
  };
}

/** A config with a hash of what stands in some of its files, in place of their names. */
function withFiles(config: object): object {
  const hashes = READ_AT_START.flatMap((key) => {
    const hash = hashOf((config as Record<string, unknown>)[key]);
    return hash === undefined ? [] : [[key, hash]];
  });
  return { ...config, ...Object.fromEntries(hashes) };
}

/** Undefined for a file that cannot be read: whoever needs it says so. What a pipe holds is for who needs it, once. */
function hashOf(file: unknown): string | undefined {
  if (typeof file !== 'string') return undefined;
  try {
    if (!statSync(file).isFile()) return undefined;
    return createHash('sha256').update(readFileSync(file)).digest('hex');
  } catch (error) {
    throwIfBug(error);
    return undefined;
  }
}

/** Keys whose values differ: of a section its own keys. */
function changedKeys(before: object, after: object, prefix = ''): string[] {
  const [a, b] = [before as Record<string, unknown>, after as Record<string, unknown>];
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].flatMap((key) => {
    if (JSON.stringify(a[key]) === JSON.stringify(b[key])) return [];
    const isSection = prefix === '' && isObject(a[key]) && isObject(b[key]);
    return isSection ? changedKeys(a[key] as object, b[key] as object, `${key}.`) : [`${prefix}${key}`];
  });
}

/** A config that is wrong changes nothing. */
async function reload(service: string, running: Service | undefined): Promise<void> {
  let said = running === undefined ? 'is starting; nothing is reloaded' : 'has nothing to reload';
  try {
    said = (await running?.reload?.()) ?? said;
  } catch (error) {
    if (!isCoded(error)) crash(service, 'reload failed', error);
    said = `config not reloaded: ${error.code}: ${error.message}`;
  }
  say(`sepia ${service}: ${said}\n`);
}

function watchSupervisor(stop: () => void): NodeJS.Timeout | undefined {
  const pid = Number(process.env['SEPIA_SUPERVISOR'] ?? '');
  if (!Number.isSafeInteger(pid) || pid <= 1) return undefined;
  let born = startTicks(pid);
  // Gone before this process looked: nothing would ever change.
  if (born === 'gone') setImmediate(stop);
  const timer = setInterval(() => {
    const now = startTicks(pid);
    // Who can open no file more cannot read it: that says nothing of the supervisor.
    if (now === 'unknown') return;
    if (born === 'unknown') born = now;
    if (now !== born) stop();
  }, SUPERVISOR_POLL_MS);
  timer.unref();
  return timer;
}

/** When a process was started (clock ticks since boot), or 'gone'; so that a reused pid is not mistaken for it. */
function startTicks(pid: number): string {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? 'gone' : (fields[19] ?? 'gone');
  } catch (error) {
    throwIfBug(error);
    return isRunning(pid) ? 'unknown' : 'gone';
  }
}

/** True while a process has this id, whoever's it is; another may have it by now. */
export function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    throwIfBug(error);
    return systemCode(error) === 'EPERM';
  }
}

/** On standard error; a disk without room for it ends nothing. */
function say(text: string): void {
  if (process.stderr.listenerCount('error') === 0) process.stderr.on('error', throwIfBug);
  process.stderr.write(text);
}

/** A line for each part that did not stop as it should; its stack where our own code is wrong. */
function sayStopFailed(service: string, error: unknown): void {
  for (const one of error instanceof AggregateError ? error.errors : [error]) {
    const cause = one instanceof Error && one.cause !== undefined ? one.cause : one;
    const why = isCoded(cause)
      ? `${cause.code}: ${cause.message}`
      : String((cause as Error)?.message ?? cause);
    // What was asked for and is cut by the signal: the stop itself is in order.
    const part = cause !== one ? `${one.message}: ` : isCoded(one, 'DRAINING') ? '' : 'stop failed: ';
    say(`sepia ${service}: ${part}${isBug(cause) ? (cause as Error).stack : why}\n`);
  }
}

function crash(service: string, what: string, error: unknown): never {
  say(`sepia ${service}: ${what}: ${(error as Error)?.stack ?? String(error)}\n`);
  process.exit(1);
}
