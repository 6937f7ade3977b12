import type { FileHandle } from 'node:fs/promises';
import { type MadeImage, readImagePart } from '@sepia/lazy/erofs/image-part';
import {
  INDEX_HEADER_BYTES,
  indexHeadBytes,
  type LayerHead,
  readIndexSpans,
} from '@sepia/lazy/index/layer-index';
import { openHandle } from '@sepia/store/files/disk-files';

/** What an index file says of its layer, without its entries. @throws {CodedError} `INDEX_INVALID` */
export async function readIndexFacts(path: string): Promise<LayerHead> {
  const file = await openHandle(path, 'read');
  try {
    return readIndexSpans(await readHead(file));
  } finally {
    await file.close();
  }
}

/** The image that who made the index put behind it. @throws {CodedError} `INDEX_INVALID` */
export async function imageBehind(file: FileHandle, index: LayerHead): Promise<MadeImage | undefined> {
  const { size } = await file.stat();
  const part = Buffer.alloc(Math.max(0, size - index.indexBytes));
  const { bytesRead } = await file.read(part, 0, part.length, index.indexBytes);
  return await readImagePart(part.subarray(0, bytesRead), index);
}

/** The head of an index, in memory of its own. @throws {CodedError} `INDEX_INVALID` */
export async function readHead(file: FileHandle): Promise<Buffer> {
  const header = Buffer.alloc(INDEX_HEADER_BYTES);
  const { bytesRead } = await file.read(header, 0, header.length, 0);
  const head = Buffer.alloc(indexHeadBytes(header.subarray(0, bytesRead)));
  const { bytesRead: length } = await file.read(head, 0, head.length, 0);
  return head.subarray(0, length);
}
