import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { CodedError, isCoded, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { indexWithImage } from '@sepia/lazy/erofs/image-part';
import { type LayerIndex, readIndexHead } from '@sepia/lazy/index/layer-index';
import { LayerIndexer, type MadeIndex } from '@sepia/lazy/index/layer-indexer';
import { diskFiles } from '@sepia/store/files/disk-files';
import { replaceWhole } from '@sepia/store/files/file-port';

const READ_BYTES = 256 * 1024;

/**
 * Makes the index of a layer blob in a file, and tries the tree that it would be mounted as.
 * @throws {CodedError} `LAYER_NOT_LAZY` (it says why), `LAYER_INVALID`, `REQUEST_INVALID` where there is no such file
 */
export async function indexFile(file: string, options: { spanBytes: number }): Promise<MadeIndex> {
  const indexer = new LayerIndexer(options);
  try {
    for await (const chunk of createReadStream(file, { highWaterMark: READ_BYTES }))
      indexer.push(chunk as Buffer);
    const made = indexer.end();
    return { ...made, bytes: indexWithImage(made.bytes) };
  } catch (error) {
    throwIfBug(error);
    if (isCoded(error, 'LAYER_NOT_LAZY'))
      throw new CodedError('LAYER_NOT_LAZY', {
        message: `${file}: ${error.message} (${[error.detail['reason'], error.detail['path']].filter(Boolean).join(': ')})`,
        detail: error.detail,
        cause: error,
      });
    if (isCoded(error, 'LAYER_INVALID'))
      throw new CodedError('LAYER_INVALID', {
        message: `${file}: ${error.message}`,
        detail: error.detail,
        cause: error,
      });
    throw notReadable(file, 'the file of one layer (of an OCI layout: below blobs/sha256)', error);
  }
}

/** Writes an index or another file whole: fsynced, then renamed to its name. */
export async function saveIndex(file: string, bytes: Uint8Array): Promise<void> {
  const path = resolve(file);
  await replaceWhole(diskFiles, { path, temporary: `${path}.${process.pid}.new`, durable: true }, bytes);
}

/** @throws {CodedError} `INDEX_INVALID` naming the file, `REQUEST_INVALID` where there is no such file */
export async function readIndexFile(file: string): Promise<LayerIndex> {
  try {
    return readIndexHead(await readFile(file));
  } catch (error) {
    throwIfBug(error);
    if (isCoded(error, 'INDEX_INVALID'))
      throw new CodedError('INDEX_INVALID', {
        message: `${file}: ${error.message}`,
        detail: error.detail,
        cause: error,
      });
    throw notReadable(file, 'an index file, as "sepia lazy index" writes it', error);
  }
}

function notReadable(file: string, wanted: string, error: unknown): unknown {
  const code = systemCode(error);
  if (code === undefined || isCoded(error) || !/^E[A-Z]+$/.test(code)) return error;
  const lack = code === 'EISDIR' ? `is a folder; name ${wanted}` : `cannot be read: ${code}`;
  return new CodedError('REQUEST_INVALID', { message: `${file} ${lack}`, cause: error });
}
