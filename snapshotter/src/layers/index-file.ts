import type { FileHandle } from 'node:fs/promises';
import { systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { type MadeImage, readImagePart } from '@sepia/lazy/erofs/image-part';
import {
  INDEX_HEADER_BYTES,
  indexHeadBytes,
  type LayerHead,
  readIndexSpans,
  SUM_BYTES,
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

/** An index that stays open. What the disk does not read of it is read of the file that a later pull put in its place. */
export class IndexFile {
  readonly path: string;
  /** Of its head, once that was read: spans are those of one index. */
  #sum: Buffer | undefined;
  #file: FileHandle;

  private constructor(path: string, file: FileHandle) {
    this.path = path;
    this.#file = file;
  }

  static async open(path: string): Promise<IndexFile> {
    return new IndexFile(path, await openHandle(path, 'read'));
  }

  /** In memory of its own. @throws {CodedError} `INDEX_INVALID` */
  async head(): Promise<Buffer> {
    const head = await this.#read(readHead);
    this.#sum ??= sumOf(head);
    return head;
  }

  /** The image that who made the index put behind it. @throws {CodedError} `INDEX_INVALID` */
  async image(index: LayerHead): Promise<MadeImage | undefined> {
    return await this.#read(async (file) => await imageBehind(file, index));
  }

  /** The window of a span, as it is stored. */
  async window({ windowOffset, windowLength }: LayerHead['spans'][number]): Promise<Buffer> {
    const stored = Buffer.alloc(windowLength);
    if (windowLength > 0)
      await this.#read(async (file) => await file.read(stored, 0, windowLength, windowOffset));
    return stored;
  }

  async diskBytes(): Promise<number> {
    return 512 * (await this.#file.stat()).blocks;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async #read<T>(read: (file: FileHandle) => Promise<T>): Promise<T> {
    const file = this.#file;
    try {
      return await read(file);
    } catch (error) {
      throwIfBug(error);
      // Another read may have put the new file in its place, and closed this one.
      const isOld = this.#file !== file;
      if (!isOld && (systemCode(error) !== 'EIO' || !(await this.#renewed(file)))) throw error;
      return await read(this.#file);
    }
  }

  /** False where the same index does not lie at its path anew. */
  async #renewed(unread: FileHandle): Promise<boolean> {
    const fresh = await openHandle(this.path, 'read');
    let isTaken = false;
    try {
      const isSame = this.#sum?.equals(sumOf(await readHead(fresh))) === true;
      // Several reads may have come this far.
      if (this.#file !== unread) return true;
      if (!isSame) return false;
      this.#file = fresh;
      isTaken = true;
    } finally {
      if (!isTaken) await fresh.close();
    }
    await unread.close();
    return true;
  }
}

/** What the last bytes of a head say of all others. */
function sumOf(head: Buffer): Buffer {
  return Buffer.from(head.subarray(-SUM_BYTES));
}

async function imageBehind(file: FileHandle, index: LayerHead): Promise<MadeImage | undefined> {
  const { size } = await file.stat();
  const part = Buffer.alloc(Math.max(0, size - index.indexBytes));
  const { bytesRead } = await file.read(part, 0, part.length, index.indexBytes);
  return await readImagePart(part.subarray(0, bytesRead), index);
}

async function readHead(file: FileHandle): Promise<Buffer> {
  const header = Buffer.alloc(INDEX_HEADER_BYTES);
  const { bytesRead } = await file.read(header, 0, header.length, 0);
  const head = Buffer.alloc(indexHeadBytes(header.subarray(0, bytesRead)));
  const { bytesRead: length } = await file.read(head, 0, head.length, 0);
  return head.subarray(0, length);
}
