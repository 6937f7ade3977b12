import { type FileHandle, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { KeyedLocks } from '@sepia/base/async/keyed-locks';
import { type CodedError, isCoded, takesNoWrites } from '@sepia/base/errors';
import { allEnded } from '@sepia/base/failure';
import {
  diskFiles,
  newHandle,
  openHandle,
  readPart,
  syncHandle,
  writeAll,
} from '@sepia/store/files/disk-files';
import { sumsOf, wrongBlocks } from '../fuse/block-sums.ts';
import { type ImageWrite, joinedWrites } from './core/joined-writes.ts';
import { IMAGE_BLOCK, Presence, type PresenceLayout } from './core/presence.ts';
import { SpanMap } from './span-map.ts';

/** Bytes of spans that are not on disk. */
export type Spare = ReadonlyMap<number, Buffer>;
const NOTHING: Spare = new Map();

interface ImageDeps {
  /** The first bytes of the image, made again. */
  readonly meta: () => Promise<Buffer>;
  /** So many blocks were found damaged; their spans are not here any more. */
  readonly onDamage: (blocks: number) => void;
  /** Default: from the disk. */
  readonly readPart?: typeof readPart | undefined;
  /** Default: to the disk. */
  readonly write?: typeof writeAll | undefined;
}

/**
 * A layer's EROFS image as a sparse file that fills span by span, with the CRC-32 of each block as it was written: who
 * reads compares. A block that is not whole yet has the sum of what is written of it, zeros where nothing is.
 */
export class ImageFile {
  readonly path: string;
  readonly presence: Presence;
  /** CRC-32 of each block; the thread that answers reads sees them. */
  readonly sums: Int32Array;
  readonly #deps: ImageDeps;
  readonly #layout: PresenceLayout;
  readonly #image: FileHandle;
  readonly #map: SpanMap;
  /** The metadata, where it was damaged and the disk did not take it again. */
  #meta: Buffer | undefined;
  /** Changes come one after the other: spans share blocks. */
  readonly #turn = new KeyedLocks<'all'>();

  private constructor(
    deps: ImageDeps,
    layout: PresenceLayout,
    parts: Pick<ImageFile, 'path' | 'presence' | 'sums'> & { image: FileHandle; map: SpanMap },
  ) {
    this.#deps = deps;
    this.#layout = layout;
    this.path = parts.path;
    this.presence = parts.presence;
    this.sums = parts.sums;
    this.#image = parts.image;
    this.#map = parts.map;
  }

  /** @param dir folder of the layer: `image`, `map` */
  static async open(
    deps: ImageDeps,
    { dir, bootId, meta }: { readonly dir: string; readonly bootId: string; readonly meta: Buffer },
    layout: PresenceLayout,
  ): Promise<ImageFile> {
    const isFolderNew = (await mkdir(dir, { recursive: true, mode: 0o700 })) !== undefined;
    const path = join(dir, 'image');
    const mapPath = join(dir, 'map');
    // Bits without the image that they are about mean nothing.
    if ((await sizeOf(path)) !== layout.imageBytes) await diskFiles.unlink(mapPath);
    const [spans, blocks] = [layout.spanOffsets.length, layout.imageBytes / IMAGE_BLOCK];
    const { map, bits, sums: noted } = await SpanMap.open(mapPath, { spans, blocks }, bootId, isFolderNew);
    const isNew = bits.every((byte) => byte === 0);
    let image: FileHandle | undefined;
    try {
      // A new file: the old one may still be mounted.
      image = isNew ? await newHandle(path) : await openHandle(path, 'update');
      await image.truncate(layout.imageBytes);
      await (deps.write ?? writeAll)(image, path, meta, 0);
      const sums = new Int32Array(new SharedArrayBuffer(4 * blocks));
      sums.set(noted);
      sums.set(sumsOf(meta));
      const presence = presenceOf(layout, bits);
      const file = new ImageFile(deps, layout, { path, presence, sums, image, map });
      // Complete, but its process was killed before it said so.
      if (presence.isComplete) await file.markClean();
      return file;
    } catch (error) {
      await allEnded([map.close(), image?.close()]);
      throw error;
    }
  }

  /** For the thread that answers hits. */
  get fd(): number {
    return this.#image.fd;
  }

  /** What is read of it here is also what others find in the file: no metadata in memory stands in for the disk's. */
  get isOfDisk(): boolean {
    return this.#meta === undefined;
  }

  /**
   * Bytes of whole blocks that are there, or in `spare`; undefined where some are damaged: these have to be fetched again.
   */
  async read(offset: number, length: number, spare: Spare = NOTHING): Promise<Buffer | undefined> {
    const bytes = await this.#bytes(offset, length);
    const wrong = wrongBlocks(this.sums, bytes, offset);
    const damaged = wrong.filter((block) => this.#isInUse(block));
    // Who was in the midst of being written may have a right sum, and holes.
    if (damaged.length === 0) {
      // Of a write that found no room a part may be there.
      for (const block of wrong) bytes.fill(0, ...within(block, offset, length));
      for (const [span, own] of spare) this.#lay(span, own, { bytes, offset });
      const missing = this.presence.missing(offset, length);
      return missing.every((span) => spare.has(span)) ? bytes : undefined;
    }
    await this.#turn.run('all', () => this.#drop(damaged));
    return undefined;
  }

  /** The bytes of a span, which are verified: from now on they are there. @throws {CodedError} `DISK_FULL`, `DISK_FAILED`: they are not */
  async store(span: number, bytes: Buffer): Promise<void> {
    await this.#turn.run('all', async () => {
      await this.#map.markDirty();
      for (const write of joinedWrites(this.presence.placements(span), bytes)) {
        const { to, bytes: whole } = await this.#wholeBlocks(span, write);
        const sums = sumsOf(whole);
        await this.#write(whole, to);
        this.sums.set(sums, to / IMAGE_BLOCK);
        await this.#map.noteSums(to / IMAGE_BLOCK, sums);
      }
      this.presence.add(span);
      await this.#map.note(this.presence.spans, span);
    });
  }

  /** What is there now will be believed by any boot, until more comes. @returns why the disk did not take that: only this boot believes it */
  async markClean(): Promise<CodedError | undefined> {
    try {
      await this.#turn.run('all', async () => {
        await syncHandle(this.#image, this.path);
        await this.#map.markClean();
      });
      return undefined;
    } catch (error) {
      if (!takesNoWrites(error)) throw error;
      return error;
    }
  }

  /** Who wrote to it, and when it was last: a text that another write changes. */
  async stamp(): Promise<string> {
    const { size, mtimeNs, ctimeNs } = await this.#image.stat({ bigint: true });
    return `${size} ${mtimeNs} ${ctimeNs}`;
  }

  /** What of it is on disk: it is sparse. */
  async diskBytes(): Promise<number> {
    return 512 * (await this.#image.stat()).blocks;
  }

  async close(): Promise<void> {
    await this.#map.close();
    await this.#image.close();
  }

  /** Zeros where the file ends too early, and in blocks that the disk does not read: what that means their sums tell. */
  async #bytes(offset: number, length: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafe(length);
    let done = 0;
    while (done < length) {
      const part = await this.#part(bytes.subarray(done), offset + done);
      if (part === 0) break;
      if (part !== undefined) {
        done += part;
        continue;
      }
      const start = done;
      done = Math.min(length, done + IMAGE_BLOCK - (done % IMAGE_BLOCK));
      bytes.fill(0, start, done);
    }
    bytes.fill(0, done);
    if (offset < this.#layout.metaBytes) this.#meta?.copy(bytes, 0, offset, offset + length);
    return bytes;
  }

  /** As `readPart`; undefined where the disk fails. */
  async #part(into: Uint8Array, at: number): Promise<number | undefined> {
    try {
      return await (this.#deps.readPart ?? readPart)(this.#image, this.path, into, at);
    } catch (error) {
      if (!isCoded(error, 'DISK_CORRUPT')) throw error;
      return undefined;
    }
  }

  /** A write with what else its first and last block hold: the ends of other spans. */
  async #wholeBlocks(span: number, { to, bytes }: ImageWrite): Promise<ImageWrite> {
    const start = to - (to % IMAGE_BLOCK);
    const end = Math.ceil((to + bytes.length) / IMAGE_BLOCK) * IMAGE_BLOCK;
    if (start === to && end === to + bytes.length) return { to, bytes };
    const whole = Buffer.alloc(end - start);
    for (const at of new Set([start, end - IMAGE_BLOCK]))
      if (this.presence.present(at, IMAGE_BLOCK).some((one) => one !== span))
        whole.set(await this.#blockNow(at), at - start);
    whole.set(bytes, to - start);
    return { to: start, bytes: whole };
  }

  /** A block that others wrote to; zeros where it is damaged, and their spans are gone then. */
  async #blockNow(at: number): Promise<Buffer> {
    const bytes = await this.#bytes(at, IMAGE_BLOCK);
    if (wrongBlocks(this.sums, bytes, at).length === 0) return bytes;
    await this.#drop([at / IMAGE_BLOCK]);
    return Buffer.alloc(IMAGE_BLOCK);
  }

  /** Takes away what is still damaged. */
  async #drop(blocks: readonly number[]): Promise<void> {
    const { metaBytes } = this.#layout;
    let found = 0;
    let isMeta = false;
    const spans = new Set<number>();
    for (const block of blocks) {
      const at = block * IMAGE_BLOCK;
      const own = this.presence.present(at, IMAGE_BLOCK);
      if (own.length === 0 && at >= metaBytes) continue;
      if (wrongBlocks(this.sums, await this.#bytes(at, IMAGE_BLOCK), at).length === 0) continue;
      found += 1;
      isMeta ||= at < metaBytes;
      for (const span of own) spans.add(span);
    }
    if (found === 0) return;
    for (const span of spans) this.presence.drop(span);
    try {
      await this.#map.markDirty();
      for (const span of spans) await this.#map.note(this.presence.spans, span);
    } catch (error) {
      // Whoever believes the bits finds the damage again, by the sums.
      if (!takesNoWrites(error)) throw error;
    }
    if (isMeta) await this.#mendMeta();
    this.#deps.onDamage(found);
  }

  async #mendMeta(): Promise<void> {
    const meta = (await this.#deps.meta()).subarray(0, this.#layout.metaBytes);
    try {
      await this.#write(meta, 0);
    } catch (error) {
      if (!takesNoWrites(error)) throw error;
      this.#meta = meta;
    }
  }

  /** Bytes of it are to be right. */
  #isInUse(block: number): boolean {
    const at = block * IMAGE_BLOCK;
    return at < this.#layout.metaBytes || this.presence.present(at, IMAGE_BLOCK).length > 0;
  }

  /** Lays what belongs into `[offset, offset + bytes.length)` of the image there. */
  #lay(span: number, own: Buffer, { bytes, offset }: { bytes: Buffer; offset: number }): void {
    if (this.presence.has(span)) return;
    for (const { from, to, length } of this.presence.placements(span)) {
      const [start, end] = [Math.max(to, offset), Math.min(to + length, offset + bytes.length)];
      if (start < end) own.copy(bytes, start - offset, from + start - to, from + end - to);
    }
  }

  async #write(bytes: Uint8Array, at: number): Promise<void> {
    await (this.#deps.write ?? writeAll)(this.#image, this.path, bytes, at);
  }
}

/** Where a block lies in `length` bytes from `offset` on. */
function within(block: number, offset: number, length: number): [start: number, end: number] {
  const start = block * IMAGE_BLOCK - offset;
  return [Math.max(0, start), Math.min(length, start + IMAGE_BLOCK)];
}

/** What is there by its bits. */
function presenceOf(layout: PresenceLayout, bits: Uint8Array): Presence {
  const presence = new Presence(layout, new SharedArrayBuffer(Presence.blockBytes(layout.imageBytes)));
  for (let span = 0; span < layout.spanOffsets.length; span++)
    if ((bits[span >> 3]! & (1 << (span & 7))) !== 0) presence.add(span);
  return presence;
}

async function sizeOf(path: string): Promise<number | undefined> {
  const facts = await diskFiles.stat(path);
  return facts?.kind === 'file' ? facts.sizeBytes : undefined;
}
