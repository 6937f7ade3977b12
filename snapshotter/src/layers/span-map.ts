import type { FileHandle } from 'node:fs/promises';
import { systemCode } from '@sepia/base/errors';
import { newHandle, openHandle } from '@sepia/store/files/disk-files';

const MAGIC = 'SEPIAMAP';
const HEADER_BYTES = 64;
const CLEAN_AT = 8;
const BOOT_AT = 16;
const BOOT_BYTES = 36;

/**
 * The bits of the spans that a layer's image file holds, on disk. They are believed only where this boot wrote them
 * (the page cache outlives a killed process) or where the file was closed cleanly, with its image synced.
 *
 * `SEPIAMAP · u8 clean · 7 zero · 36 bytes boot id · 12 zero · bits (bit n % 8 of byte n >> 3)`
 */
export class SpanMap {
  readonly #file: FileHandle;
  readonly #bootId: string;

  private constructor(file: FileHandle, bootId: string) {
    this.#file = file;
    this.#bootId = bootId;
  }

  /**
   * Opens or makes the map. `isFolderNew`: no power cut can bring back an older one at this path.
   * @returns also the bits that are believed; all zero otherwise
   */
  static async open(
    path: string,
    spans: number,
    bootId: string,
    isFolderNew = false,
  ): Promise<{ map: SpanMap; bits: Uint8Array }> {
    const file = await openOrMake(path);
    const bytes = Buffer.alloc(HEADER_BYTES + Math.ceil(spans / 8));
    const { bytesRead } = await file.read(bytes, 0, bytes.length, 0);
    const isOurs = bytesRead === bytes.length && bytes.toString('latin1', 0, 8) === MAGIC;
    const isBelieved =
      isOurs && (bytes[CLEAN_AT] === 1 || bytes.toString('latin1', BOOT_AT, BOOT_AT + BOOT_BYTES) === bootId);
    const bits = isBelieved
      ? Uint8Array.from(bytes.subarray(HEADER_BYTES))
      : new Uint8Array(bytes.length - HEADER_BYTES);
    const map = new SpanMap(file, bootId);
    // Nothing will be added to a layer that is whole: what was clean stays so.
    if (isBelieved && bytes[CLEAN_AT] === 1 && isFull(bits, spans)) return { map, bits };
    if (!isBelieved) await file.truncate(0);
    await map.#writeHeader(false);
    if (bits.length > 0) await file.write(bits, 0, bits.length, HEADER_BYTES);
    // A reboot must not find "clean" beside bits that come later.
    if (!isFolderNew) await file.datasync();
    return { map, bits };
  }

  /** Notes that the span whose bit is in `bits` is in the image file. */
  async note(bits: Uint8Array, span: number): Promise<void> {
    await this.#file.write(bits, span >> 3, 1, HEADER_BYTES + (span >> 3));
  }

  /** After the image was synced, and before bits are added: the bits will be believed by any boot. */
  async markClean(): Promise<void> {
    await this.#writeHeader(true);
    await this.#file.datasync();
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async #writeHeader(isClean: boolean): Promise<void> {
    const header = Buffer.alloc(HEADER_BYTES);
    header.write(MAGIC, 0, 'latin1');
    header.writeUInt8(isClean ? 1 : 0, CLEAN_AT);
    header.write(this.#bootId, BOOT_AT, BOOT_BYTES, 'latin1');
    await this.#file.write(header, 0, header.length, 0);
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
