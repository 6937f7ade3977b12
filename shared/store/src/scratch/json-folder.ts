import { randomUUID } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { diskFiles } from '../files/disk-files.ts';
import { readWhole, replaceWhole } from '../files/file-port.ts';
import { sweepGone } from './scratch.ts';

/** Names of files that this process writes now. */
const WRITTEN = new Set<string>();

/**
 * Small values in a folder, a JSON file each, under names that are safe in a path. A value appears by rename after it was
 * synced; one that cannot be read as what `isValue` knows counts as none.
 */
export class JsonFolder<T> {
  readonly #folder: string;
  readonly #isValue: (value: unknown) => value is T;

  private constructor(folder: string, isValue: (value: unknown) => value is T) {
    this.#folder = folder;
    this.#isValue = isValue;
  }

  /** What a process that was killed while it wrote has left there is removed. */
  static async open<T>(folder: string, isValue: (value: unknown) => value is T): Promise<JsonFolder<T>> {
    await sweepGone(folder, /^[\w-]+\.(\d+)-[\da-f-]+$/, WRITTEN);
    return new JsonFolder(folder, isValue);
  }

  async get(name: string): Promise<T | undefined> {
    const bytes = await readWhole(diskFiles, this.#path(name));
    if (bytes === undefined) return undefined;
    try {
      const value = JSON.parse(Buffer.from(bytes).toString('utf8')) as unknown;
      return typeof value === 'object' && value !== null && this.#isValue(value) ? value : undefined;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      return undefined;
    }
  }

  async put(name: string, value: T): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const path = this.#path(name);
    const temporary = `${path}.${process.pid}-${randomUUID()}`;
    WRITTEN.add(basename(temporary));
    try {
      await replaceWhole(diskFiles, { path, temporary, durable: true }, Buffer.from(JSON.stringify(value)));
    } finally {
      WRITTEN.delete(basename(temporary));
    }
  }

  #path(name: string): string {
    if (!/^[\w-]{1,128}$/.test(name)) throw new TypeError(`"${name}" is no name of a value`);
    return join(this.#folder, name);
  }
}
