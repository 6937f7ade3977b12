import { write, writeSync } from 'node:fs';
import { systemCode } from './errors.ts';
import { throwIfBug } from './failure.ts';

/** Lines that wait for a slow reader or disk, in bytes; what comes beyond is lost. */
const MAX_WAITING_BYTES = 1024 * 1024;
/** Most of one write, in bytes. */
const MAX_WRITE_BYTES = 64 * 1024;
/** Until a pipe that was full is tried again, in ms. */
const RETRY_MS = 100;
const LINE_FEED = 0x0a;

/** Where a sink writes; both may write less than they were given. */
export interface LogFile {
  write(bytes: Uint8Array, done: (error: Error | null, written: number) => void): void;
  writeSync(bytes: Uint8Array): number;
}

interface LogSinkOptions {
  readonly maxBytes?: number;
  readonly retryMs?: number;
}

let lost = 0;

/** Log lines that this process could not write, for `sepia_log_lines_lost_total`. */
export function logLinesLost(): number {
  return lost;
}

/** An open file, pipe or terminal. */
export function openedFile(fd: number): LogFile {
  return {
    write: (bytes, done) => write(fd, bytes, done),
    writeSync: (bytes) => writeSync(fd, bytes),
  };
}

/** A file whose lines are in it before the next thing happens; `opened` is asked before each write. */
export function writtenAtOnce(opened: () => number): LogFile {
  const atOnce = (bytes: Uint8Array): { error: Error | null; written: number } => {
    try {
      return { error: null, written: writeSync(opened(), bytes) };
    } catch (error) {
      throwIfBug(error);
      return { error: error as Error, written: 0 };
    }
  };
  return {
    write: (bytes, done) => {
      const { error, written } = atOnce(bytes);
      done(error, written);
    },
    writeSync: (bytes) => writeSync(opened(), bytes),
  };
}

/**
 * Writes log lines in the background, and never fails: lines for which the disk has no room, or that nobody reads in time,
 * are lost and counted. The first write that succeeds after a loss calls `onRoom`.
 */
export class LogSink {
  /** Told how many lines were lost, once lines can be written again. */
  onRoom: (lost: number) => void = () => undefined;
  readonly #file: LogFile;
  readonly #maxBytes: number;
  readonly #retryMs: number;
  #lines: Buffer[] = [];
  #bytes = 0;
  /** What is being written, until it is or is lost. */
  #chunk: Buffer | undefined;
  #isWriting = false;
  #retry: NodeJS.Timeout | undefined;
  /** A line that broke off is ended before the next. */
  #isTorn = false;
  #lost = 0;

  constructor(file: LogFile, { maxBytes = MAX_WAITING_BYTES, retryMs = RETRY_MS }: LogSinkOptions = {}) {
    this.#file = file;
    this.#maxBytes = maxBytes;
    this.#retryMs = retryMs;
  }

  /** Takes one line with its line feed. */
  write(line: string): void {
    const bytes = Buffer.from(line);
    if (this.#bytes + bytes.length > this.#maxBytes) {
      this.#lose(1);
      return;
    }
    this.#lines.push(bytes);
    this.#bytes += bytes.length;
    this.#pump();
  }

  /** For the end of the process: writes what waits as far as it can be written at once. */
  flushSync(): void {
    // What the background writes at this moment is written by it.
    if (this.#isWriting) this.#chunk = undefined;
    try {
      for (let chunk = this.#next(); chunk !== undefined; chunk = this.#next())
        this.#wrote(chunk, this.#file.writeSync(chunk));
    } catch (error) {
      throwIfBug(error);
      this.#loseWaiting();
    }
  }

  #pump(): void {
    if (this.#isWriting || this.#retry !== undefined) return;
    const chunk = this.#next();
    if (chunk === undefined) return;
    this.#isWriting = true;
    this.#file.write(chunk, (error, written) => {
      this.#isWriting = false;
      if (error === null) this.#succeeded(chunk, written);
      else if (systemCode(error) === 'EAGAIN') this.#later();
      else this.#loseWaiting();
    });
  }

  #succeeded(chunk: Buffer, written: number): void {
    this.#wrote(chunk, written);
    const count = this.#lost;
    if (count > 0 && written > 0) {
      this.#lost = 0;
      this.onRoom(count);
    }
    this.#pump();
  }

  #later(): void {
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.#pump();
    }, this.#retryMs);
    this.#retry.unref();
  }

  /** What is left of the chunk under way, else as many lines as fit one write. */
  #next(): Buffer | undefined {
    if (this.#chunk !== undefined || this.#lines.length === 0) return this.#chunk;
    let count = 0;
    let bytes = 0;
    for (const { length } of this.#lines) {
      if (count > 0 && bytes + length > MAX_WRITE_BYTES) break;
      count += 1;
      bytes += length;
    }
    const lines = this.#lines.splice(0, count);
    this.#bytes -= bytes;
    this.#chunk = Buffer.concat(this.#isTorn ? [Buffer.of(LINE_FEED), ...lines] : lines);
    return this.#chunk;
  }

  #wrote(chunk: Buffer, written: number): void {
    if (written > 0) this.#isTorn = chunk[written - 1] !== LINE_FEED;
    this.#chunk = written < chunk.length ? chunk.subarray(written) : undefined;
  }

  #loseWaiting(): void {
    // A line feed at its beginning ends a line that is written or counted already.
    const begun = this.#chunk?.filter((byte, at) => at > 0 && byte === LINE_FEED).length ?? 0;
    this.#lose(begun + this.#lines.length);
    this.#chunk = undefined;
    this.#lines = [];
    this.#bytes = 0;
  }

  #lose(count: number): void {
    lost += count;
    this.#lost += count;
  }
}
