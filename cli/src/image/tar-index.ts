import { type FileHandle, open } from 'node:fs/promises';
import { dirname, join, normalize } from 'node:path';
import { CodedError, isCoded } from '@sepia/base/errors';
import { type ByteString, textOf } from '@sepia/lazy/tar/byte-string';
import { TarReader } from '@sepia/lazy/tar/tar-reader';

/** Where a file lies inside a tar, in bytes; or the name that it links to. */
export interface TarPlace {
  readonly offset: number;
  readonly sizeBytes: number;
  readonly link: string | undefined;
}

const MAX_FILES = 1_000_000;
/** Headers are read together where files are small; what is longer is passed over. */
const READ_BYTES = 64 * 1024;
const WANTED = 'an OCI layout folder, or a tar of "docker save" or of an OCI layout';

/**
 * The files of a tar by name, from its headers alone.
 * @throws {CodedError} `REQUEST_INVALID` when it is compressed, cut or no tar
 */
export async function indexTar(path: string): Promise<ReadonlyMap<string, TarPlace>> {
  const file = await open(path, 'r');
  try {
    return await readIndex(file);
  } catch (error) {
    if (!isCoded(error, 'LAYER_INVALID')) throw error;
    const message = `${path} is no tar that can be read (${error.message}); expected ${WANTED}`;
    throw new CodedError('REQUEST_INVALID', { message, cause: error });
  } finally {
    await file.close();
  }
}

async function readIndex(file: FileHandle): Promise<ReadonlyMap<string, TarPlace>> {
  const { size: fileBytes } = await file.stat();
  if (fileBytes === 0) throw invalid('it is empty');
  const files = new Map<string, TarPlace>();
  const reader = new TarReader({
    entry: ({ type, name, linkName, payloadOffset: offset, size: sizeBytes, sparse }) => {
      if (sparse) throw invalid(`${textOf(name)} has holes; make the tar without --sparse`);
      const link = linkOf(type, textOf(name), linkName);
      if (type !== 'file' && link === undefined) return;
      if (files.size >= MAX_FILES) throw invalid(`it has more than ${MAX_FILES} files`);
      files.set(normalize(textOf(name)), { offset, sizeBytes, link });
    },
  });
  const chunk = Buffer.alloc(READ_BYTES);
  for (let at = 0; at < fileBytes; ) {
    const { bytesRead } = await file.read(chunk, 0, READ_BYTES, at);
    if (at === 0 && chunk[0] === 0x1f && chunk[1] === 0x8b)
      throw invalid('it is compressed; unpack it first: gunzip FILE');
    if (bytesRead === 0) break;
    reader.push(chunk.subarray(0, bytesRead));
    at += bytesRead;
    at += reader.skip(fileBytes - at);
  }
  reader.end();
  return files;
}

/** Names in a hard link are the archive's, those in a symbolic link begin at its folder. */
function linkOf(type: string, name: string, target: ByteString): string | undefined {
  if (type === 'hardlink') return normalize(textOf(target));
  return type === 'symlink' ? normalize(join(dirname(name), textOf(target))) : undefined;
}

function invalid(message: string): CodedError {
  return new CodedError('LAYER_INVALID', { message });
}
