import { mkdir, open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { systemCode } from '@sepia/base/errors';

/**
 * Small values in a folder, a JSON file each, under names that are safe in a path. A value appears by rename after it was
 * synced; one that cannot be read as what `isValue` knows counts as none.
 */
export class JsonFolder<T> {
  readonly #folder: string;
  readonly #isValue: (value: unknown) => value is T;

  constructor(folder: string, isValue: (value: unknown) => value is T) {
    this.#folder = folder;
    this.#isValue = isValue;
  }

  async get(name: string): Promise<T | undefined> {
    let text: string;
    try {
      text = await readFile(this.#path(name), 'utf8');
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
      return undefined;
    }
    try {
      const value = JSON.parse(text) as unknown;
      return typeof value === 'object' && value !== null && this.#isValue(value) ? value : undefined;
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      return undefined;
    }
  }

  async put(name: string, value: T): Promise<void> {
    await mkdir(this.#folder, { recursive: true, mode: 0o700 });
    const path = this.#path(name);
    const partial = `${path}.${process.pid}`;
    const file = await open(partial, 'w', 0o600);
    try {
      await file.writeFile(JSON.stringify(value));
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(partial, path);
  }

  #path(name: string): string {
    if (!/^[\w-]{1,128}$/.test(name)) throw new TypeError(`"${name}" is no name of a value`);
    return join(this.#folder, name);
  }
}
