import { createReadStream, realpathSync, statSync } from 'node:fs';
import { join, normalize, sep } from 'node:path';
import { Readable } from 'node:stream';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { indexTar, type TarPlace } from './tar-index.ts';

/** Files of an image on disk, in a folder or in a tar; names are relative with `/`. */
export interface Archive {
  /** Of the folder or tar. */
  readonly path: string;
  /** Undefined when there is no such file. */
  sizeOf(name: string): number | undefined;
  open(name: string): Readable;
  /** False where the name is that of a file, but links lead to it that leave the folder. */
  isOwn(name: string): boolean;
}

const MAX_JSON_BYTES = 4 * 1024 * 1024;
/** Links after each other that lead to a file. */
const MAX_LINKS = 4;

/** Opens a folder or an uncompressed tar. @throws {CodedError} `REQUEST_INVALID` when it is neither */
export async function openArchive(path: string): Promise<Archive> {
  let isFolder: boolean;
  try {
    isFolder = statSync(path).isDirectory();
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('REQUEST_INVALID', {
      message: `${path} cannot be read (${systemCode(cause)})`,
      cause,
    });
  }
  return isFolder ? new FolderArchive(path) : new TarArchive(path, await indexTar(path));
}

/** A small file as text, or undefined when it is not there. */
export async function readText(archive: Archive, name: string): Promise<string | undefined> {
  const sizeBytes = archive.sizeOf(name);
  if (sizeBytes === undefined) return undefined;
  if (sizeBytes > MAX_JSON_BYTES)
    throw new CodedError('MANIFEST_TOO_LARGE', { message: `${name} is larger than 4 MiB` });
  const chunks: Buffer[] = [];
  for await (const chunk of archive.open(name) as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8');
}

export class FolderArchive implements Archive {
  readonly path: string;

  constructor(root: string) {
    this.path = root;
  }

  sizeOf(name: string): number | undefined {
    // An image of others names its files: none elsewhere is sent in its place.
    if (/^\.\.(\/|$)/.test(normalize(name)) || name.includes('\0')) return undefined;
    const stat = statSync(join(this.path, name), { throwIfNoEntry: false });
    return stat?.isFile() === true ? stat.size : undefined;
  }

  open(name: string): Readable {
    return createReadStream(join(this.path, name), { highWaterMark: 1024 * 1024 });
  }

  isOwn(name: string): boolean {
    return realpathSync(join(this.path, name)).startsWith(join(realpathSync(this.path), sep));
  }
}

class TarArchive implements Archive {
  readonly path: string;
  readonly #files: ReadonlyMap<string, TarPlace>;

  constructor(path: string, files: ReadonlyMap<string, TarPlace>) {
    this.path = path;
    this.#files = files;
  }

  sizeOf(name: string): number | undefined {
    return this.#find(name)?.sizeBytes;
  }

  open(name: string): Readable {
    const entry = this.#find(name);
    if (entry === undefined)
      throw new CodedError('REQUEST_INVALID', { message: `${this.path} holds no ${name}` });
    if (entry.sizeBytes === 0) return Readable.from([]);
    const range = {
      start: entry.offset,
      end: entry.offset + entry.sizeBytes - 1,
      highWaterMark: 1024 * 1024,
    };
    return createReadStream(this.path, range);
  }

  isOwn(): boolean {
    return true;
  }

  #find(name: string, depth = 0): TarPlace | undefined {
    const entry = this.#files.get(normalize(name));
    if (entry?.link === undefined) return entry;
    return depth > MAX_LINKS ? undefined : this.#find(entry.link, depth + 1);
  }
}
