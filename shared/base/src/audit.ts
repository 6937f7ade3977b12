import { accessSync, closeSync, constants, fstatSync, mkdirSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Logger, pino } from 'pino';
import { CodedError, systemCode } from './errors.ts';
import { throwIfBug } from './failure.ts';
import { LogSink, writtenAtOnce } from './log-sink.ts';

/** One line of the audit log: who did what to which content. Never a secret. */
export interface AuditEvent {
  readonly event: 'push' | 'delete' | 'login' | 'denied' | 'purge';
  /** Undefined for somebody who did not log in. */
  readonly account?: string | undefined;
  readonly address?: string | undefined;
  readonly requestId?: string | undefined;
  readonly upstream?: string | undefined;
  readonly repository?: string | undefined;
  /** Tag or digest as asked for. */
  readonly reference?: string | undefined;
  readonly digest?: string | undefined;
  readonly action?: string | undefined;
  /** Of a login. */
  readonly outcome?: 'ok' | 'failed' | 'limited' | undefined;
  readonly reason?: string | undefined;
}

/** Takes the lines of the audit log: JSON, each with its time, the member and the event. */
export interface Audit {
  note(event: AuditEvent): void;
  /** Everything noted is in the file when it returns. */
  close(): void;
}

/**
 * The audit log of a member: `file` gets lines of its own, whatever the log level; without it they go to the member's
 * log, level info, marked `audit: true`. A file that was moved or removed, as log rotation does, is begun anew by the
 * next line. Lines for which the disk has no room are lost and counted, and the member's log
 * says how many: requests go on.
 * @throws {CodedError} `CONFIG_INVALID` for a file that cannot be opened
 */
export function openAudit(
  member: { readonly service: string; readonly id: string; readonly log: Logger },
  file: string | undefined,
): Audit {
  if (file === undefined) {
    const log = member.log.child({ audit: true });
    return { note: (event) => log.info(event, event.event), close: () => undefined };
  }
  const lines = new LineFile(member.log, file);
  const sink = new LogSink(writtenAtOnce(() => lines.descriptor()));
  sink.onRoom = (lost) =>
    member.log.warn({ lost, file }, 'lines of the audit log were lost: it could not be written');
  const log = pino(
    {
      base: { service: member.service, member: member.id, audit: true },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label: string) => ({ level: label }) },
    },
    sink,
  );
  let isOpen = true;
  return {
    note: (event) => {
      if (isOpen) log.info(event, event.event);
    },
    close: () => {
      if (!isOpen) return;
      isOpen = false;
      sink.flushSync();
      lines.close();
    },
  };
}

/** Refuses what {@link openAudit} could not open; makes nothing. @throws {CodedError} `CONFIG_INVALID` */
export function checkAudit(file: string | undefined): void {
  if (file === undefined) return;
  orRefused(file, () => {
    const { O_WRONLY, O_APPEND, O_NONBLOCK, W_OK, X_OK } = constants;
    if (isThere(file)) return closeSync(openSync(file, O_WRONLY | O_APPEND | O_NONBLOCK));
    let folder = dirname(file);
    while (!isThere(folder)) folder = dirname(folder);
    if (!statSync(folder).isDirectory())
      throw Object.assign(new Error(`${folder} is no folder`), { code: 'ENOTDIR' });
    accessSync(folder, W_OK | X_OK);
  });
}

/** The file of an audit log by its name: the one that lies there now. */
class LineFile {
  readonly #log: Logger;
  readonly #file: string;
  #fd: number;
  #isStuck = false;

  /** @throws {CodedError} `CONFIG_INVALID` */
  constructor(log: Logger, file: string) {
    this.#log = log;
    this.#file = file;
    this.#fd = openForLines(file);
  }

  /** Open for appending. Where the name leads nowhere and no file can be made, the one that was moved away. */
  descriptor(): number {
    try {
      if (this.#isMoved()) {
        const next = openForLines(this.#file);
        closeSync(this.#fd);
        this.#fd = next;
        this.#log.info({ file: this.#file }, 'audit-log was moved or removed; it is begun anew');
      }
      this.#isStuck = false;
    } catch (error) {
      throwIfBug(error);
      if (!this.#isStuck)
        this.#log.error(
          { file: this.#file, reason: (error as Error).message },
          'audit-log was moved and cannot be begun anew; lines go on into the file that was moved',
        );
      this.#isStuck = true;
    }
    return this.#fd;
  }

  close(): void {
    closeSync(this.#fd);
  }

  #isMoved(): boolean {
    const there = statSync(this.#file, { throwIfNoEntry: false, bigint: true });
    const own = fstatSync(this.#fd, { bigint: true });
    return there?.ino !== own.ino || there.dev !== own.dev;
  }
}

function isThere(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

function openForLines(file: string): number {
  return orRefused(file, () => {
    mkdirSync(dirname(file), { recursive: true });
    return openSync(file, 'a', 0o600);
  });
}

function orRefused<T>(file: string, open: () => T): T {
  try {
    return open();
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('CONFIG_INVALID', {
      message: `audit-log: ${file} cannot be opened (${systemCode(cause)})`,
      cause,
    });
  }
}
