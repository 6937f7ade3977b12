import { randomUUID } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { Readable } from 'node:stream';
import { systemCode } from '@sepia/base/errors';
import { isRunning } from '@sepia/base/process';

/** A file that lives as long as something is worked on: written once from its start, read anywhere. Not synced. */
export class ScratchFile {
  readonly path: string;
  readonly #file: FileHandle;
  #sizeBytes = 0;

  private constructor(path: string, file: FileHandle) {
    this.path = path;
    this.#file = file;
  }

  /** Makes one in `folder`, which is made too. */
  static async create(folder: string): Promise<ScratchFile> {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const name = `scratch-${process.pid}-${randomUUID()}`;
    const path = join(folder, name);
    LIVE.add(name);
    return new ScratchFile(path, await open(path, 'wx+', 0o600));
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  async append(bytes: Uint8Array): Promise<void> {
    let done = 0;
    while (done < bytes.length) {
      const { bytesWritten } = await this.#file.write(bytes, done, bytes.length - done, this.#sizeBytes);
      done += bytesWritten;
      this.#sizeBytes += bytesWritten;
    }
  }

  async readInto(into: Uint8Array, offset: number): Promise<void> {
    let done = 0;
    while (done < into.length) {
      const { bytesRead } = await this.#file.read(into, done, into.length - done, offset + done);
      if (bytesRead === 0) throw new RangeError(`${this.path} ends before ${offset + into.length}`);
      done += bytesRead;
    }
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    await this.readInto(bytes, offset);
    return bytes;
  }

  /** A new stream of its bytes from `start` to `end` (exclusive); without them, of all. */
  stream(start = 0, end = this.#sizeBytes): Readable {
    if (end <= start) return Readable.from([]);
    return createReadStream(this.path, { start, end: end - 1, highWaterMark: 1024 * 1024 });
  }

  /** Closes and removes it. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#file.close();
    await rm(this.path, { force: true });
    LIVE.delete(basename(this.path));
  }
}

/** A folder that lives as long as something is worked on. */
export class ScratchFolder implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** Makes one in `folder`, which is made too. */
  static async create(folder: string): Promise<ScratchFolder> {
    const name = `scratch-${process.pid}-${randomUUID()}`;
    const path = join(folder, name);
    LIVE.add(name);
    await mkdir(path, { recursive: true, mode: 0o700 });
    return new ScratchFolder(path);
  }

  /** Removes it with all that is in it. Idempotent. */
  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
    LIVE.delete(basename(this.path));
  }
}

/** Files and folders that this process works with. */
const LIVE = new Set<string>();

/** Removes scratch files and folders whose process is gone: one that was killed leaves them. */
export async function sweepScratch(folder: string): Promise<void> {
  await sweepGone(folder, /^scratch-(\d+)-/, LIVE);
}

/** Removes files and folders of processes that are gone: names have the number of theirs, `live` are those of this one. */
export async function sweepGone(folder: string, named: RegExp, live: ReadonlySet<string>): Promise<void> {
  for (const name of await namesIn(folder)) {
    const pid = named.exec(name)?.[1];
    if (pid === undefined) continue;
    // A number may have been another process's before: what this one did not make is not its own.
    const isInUse = Number(pid) === process.pid ? live.has(name) : isRunning(Number(pid));
    if (!isInUse) await rm(join(folder, name), { recursive: true, force: true });
  }
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    throw error;
  }
}
