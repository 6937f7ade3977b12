import type { FileHandle } from 'node:fs/promises';
import { isCoded, systemCode } from '@sepia/base/errors';
import { newHandle, openHandle, readPart, syncHandle, writeAll } from '@sepia/store/files/disk-files';

/** `SEPIAMAP` had no sums: what is on disk from then is fetched again. */
const MAGIC = 'SEPIAMP2';
const HEADER_BYTES = 64;
const CLEAN_AT = 8;
const BOOT_AT = 16;
const BOOT_BYTES = 36;

/**
 * The bits of the spans that a layer's image file holds, and the sums of its blocks, on disk. The bits are believed only where this boot wrote them
 * (the page cache outlives a killed process) or where the file was closed cleanly, with its image synced.
 *
 * `SEPIAMP2 · u8 clean · 7 zero · 36 bytes boot id · 12 zero · bits (bit n % 8 of byte n >> 3) ·
 * sums (CRC-32 of each block of the image as it was written last, little endian)`
 */
export class SpanMap {
  readonly #file: FileHandle;
  readonly #path: string;
  readonly #bootId: string;
  readonly #sumsAt: number;
  #isClean = false;

  private constructor(file: FileHandle, path: string, bootId: string, spans: number) {
    this.#file = file;
    this.#path = path;
    this.#bootId = bootId;
    this.#sumsAt = HEADER_BYTES + Math.ceil(spans / 8);
  }

  /**
   * Opens or makes the map. `isFolderNew`: no power cut can bring back an older one at this path.
   * @returns also the bits that are believed, and the sums; all zero otherwise
   */
  static async open(
    path: string,
    { spans, blocks }: { readonly spans: number; readonly blocks: number },
    bootId: string,
    isFolderNew = false,
  ): Promise<{ map: SpanMap; bits: Uint8Array; sums: Int32Array }> {
    const file = await openOrMake(path);
    try {
      return await SpanMap.#read(new SpanMap(file, path, bootId, spans), { spans, blocks, isFolderNew });
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  static async #read(
    map: SpanMap,
    {
      spans,
      blocks,
      isFolderNew,
    }: { readonly spans: number; readonly blocks: number; readonly isFolderNew: boolean },
  ): ReturnType<typeof SpanMap.open> {
    const [file, path, bootId] = [map.#file, map.#path, map.#bootId];
    const bytes = Buffer.alloc(map.#sumsAt + 4 * blocks);
    const bytesRead = await readIfSound(file, path, bytes);
    const isOurs = bytesRead === bytes.length && bytes.toString('latin1', 0, 8) === MAGIC;
    const isBelieved =
      isOurs && (bytes[CLEAN_AT] === 1 || bytes.toString('latin1', BOOT_AT, BOOT_AT + BOOT_BYTES) === bootId);
    if (!isBelieved) bytes.fill(0);
    const bits = Uint8Array.from(bytes.subarray(HEADER_BYTES, map.#sumsAt));
    const sums = Int32Array.from({ length: blocks }, (_none, at) => bytes.readInt32LE(map.#sumsAt + 4 * at));
    // Nothing will be added to a layer that is whole: what was clean stays so.
    map.#isClean = isBelieved && bytes[CLEAN_AT] === 1 && isFull(bits, spans);
    if (map.#isClean) return { map, bits, sums };
    if (!isBelieved) {
      await file.truncate(0);
      await file.truncate(bytes.length);
    }
    await map.#writeHeader(false);
    await map.#write(bits, HEADER_BYTES);
    // A reboot must not find "clean" beside bits that come later.
    if (!isFolderNew) await syncHandle(file, path);
    return { map, bits, sums };
  }

  /** The sums of blocks from `first` on, after they were written. */
  async noteSums(first: number, sums: Int32Array): Promise<void> {
    const bytes = Buffer.alloc(4 * sums.length);
    for (const [at, sum] of sums.entries()) bytes.writeInt32LE(sum, 4 * at);
    await this.#write(bytes, this.#sumsAt + 4 * first);
  }

  /** Writes the bit of a span as it is in `bits`: its bytes are in the image file, or are to be fetched again. */
  async note(bits: Uint8Array, span: number): Promise<void> {
    await this.#write(bits.subarray(span >> 3, (span >> 3) + 1), HEADER_BYTES + (span >> 3));
  }

  /** Before bits are taken away or added: no other boot believes them until the next `markClean`. */
  async markDirty(): Promise<void> {
    if (!this.#isClean) return;
    this.#isClean = false;
    await this.#writeHeader(false);
    await syncHandle(this.#file, this.#path);
  }

  /** After the image was synced, and before bits are added: the bits will be believed by any boot. */
  async markClean(): Promise<void> {
    await this.#writeHeader(true);
    await syncHandle(this.#file, this.#path);
    this.#isClean = true;
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async #writeHeader(isClean: boolean): Promise<void> {
    const header = Buffer.alloc(HEADER_BYTES);
    header.write(MAGIC, 0, 'latin1');
    header.writeUInt8(isClean ? 1 : 0, CLEAN_AT);
    header.write(this.#bootId, BOOT_AT, BOOT_BYTES, 'latin1');
    await this.#write(header, 0);
  }

  async #write(bytes: Uint8Array, at: number): Promise<void> {
    await writeAll(this.#file, this.#path, bytes, at);
  }
}

function isFull(bits: Uint8Array, spans: number): boolean {
  for (let span = 0; span < spans; span++) if ((bits[span >> 3]! & (1 << (span & 7))) === 0) return false;
  return true;
}

async function openOrMake(path: string): Promise<FileHandle> {
  try {
    return await openHandle(path, 'update');
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw error;
    return await newHandle(path);
  }
}

/** How many bytes were read; none where the disk fails: what they say of is fetched again. */
async function readIfSound(file: FileHandle, path: string, into: Uint8Array): Promise<number> {
  try {
    return await readPart(file, path, into, 0);
  } catch (error) {
    if (!isCoded(error, 'DISK_CORRUPT')) throw error;
    return 0;
  }
}
