import { readdirSync, readFileSync } from 'node:fs';
import { CodedError, isCoded, RAISE_LIMIT, systemCode } from '../errors.ts';
import { throwIfBug } from '../failure.ts';

/** Of a process, or of its machine, that may open no file more. */
const NO_FILE_MORE: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE']);
/** As the database words it, which gives it no code. */
const IN_WORDS = /Too many open files/;
/** What tells of a failure names its cause, and that one its own. */
const MOST_CAUSES = 4;
/** Share of the limit from which on an operator is told. */
const MOST_SHARE = 0.8;

/**
 * True where this process could open no file or socket more: whoever it wanted to ask was not asked, and the disk is well. What
 * another member says of itself is none: its cause stays there.
 */
export function isOutOfFiles(thrown: unknown): boolean {
  let one = thrown;
  for (let depth = 0; depth < MOST_CAUSES && one instanceof Error; depth++) {
    if (NO_FILE_MORE.has(systemCode(one) ?? '')) return true;
    if (!isCoded(one) && IN_WORDS.test(one.message)) return true;
    one = one.cause;
  }
  return false;
}

/** `MEMBER_BUSY` for what failed because this process has as many files open as it may: it passes, and an operator can raise the limit. */
export function outOfFiles(cause: unknown): CodedError {
  return new CodedError('MEMBER_BUSY', {
    message: 'this member has as many files open as it may; raise its limit of open files',
    cause,
  });
}

/** Files and sockets that this process has open, and how many it may. */
interface OpenFiles {
  readonly open: number;
  readonly limit: number;
}

/** As the system said last: without a descriptor it says nothing. */
let lastLimit: number | undefined;

/** Undefined where the system does not say, or sets no limit. */
export function openFiles(): OpenFiles | undefined {
  try {
    const [, limit] = /^Max open files +(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8')) ?? [];
    if (limit === undefined) return undefined;
    lastLimit = Number(limit);
    // One of them is the folder that is read.
    return { open: readdirSync('/proc/self/fd').length - 1, limit: Number(limit) };
  } catch (error) {
    throwIfBug(error);
    if (lastLimit !== undefined && isOutOfFiles(error)) return { open: lastLimit, limit: lastLimit };
    return undefined;
  }
}

/** Lines for `/readyz`: without a descriptor nobody is answered, and nothing is read. `reserve`: so many are not given to clients. */
export function openFilesWarnings(files: OpenFiles | undefined, reserve = 0): string[] {
  if (files === undefined) return [];
  if (files.open < Math.min(files.limit * MOST_SHARE, files.limit - reserve)) return [];
  return [`open files: ${files.open} of ${files.limit} are open; ${RAISE_LIMIT}`];
}
