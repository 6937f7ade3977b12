import { type FileHandle, mkdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { FilePart } from '@sepia/cluster/core/path-line';
import type { Extents } from '@sepia/lazy/erofs/extents';
import { type MadeImage, readImagePart } from '@sepia/lazy/erofs/image-part';
import type { TreeNode } from '@sepia/lazy/erofs/layer-tree';
import {
  INDEX_HEADER_BYTES,
  indexEntries,
  indexHeadBytes,
  type LayerHead,
  readIndexSpans,
} from '@sepia/lazy/index/layer-index';
import type { ByteString } from '@sepia/lazy/tar/byte-string';
import { diskFiles, newHandle, openHandle } from '@sepia/store/files/disk-files';
import type { AgentSource, LayerName } from './agent-source.ts';
import { firstReads, turnBytes } from './core/first-reads.ts';
import { joinedWrites } from './core/joined-writes.ts';
import { IMAGE_BLOCK, Presence } from './core/presence.ts';
import { ReadAhead } from './core/read-ahead.ts';
import type { Run } from './core/runs.ts';
import type { ImageMaker, IndexAt } from './image-process.ts';
import type { FilePlace } from './made-image.ts';
import { SpanFetches } from './span-fetches.ts';
import { SpanMap } from './span-map.ts';

interface LayerDeps {
  readonly images: ImageMaker;
  readonly source: Pick<AgentSource, 'read'>;
  /** Bytes that came from the agent. */
  readonly onFetched: (bytes: number) => void;
  /** All of the layer is in its image file, on disk: the file can be mounted by itself. */
  readonly onComplete: (layer: LazyLayer) => void;
  /** What the agent sends does not fit the index, again and again. */
  readonly onMismatch?: (layer: LazyLayer, error: CodedError) => void;
  /** What comes next did not come; nobody waits for it yet. */
  readonly onAheadFailure?: (layer: LazyLayer, error: unknown) => void;
}

interface LayerOptions {
  /** Folder of a layer: `image`, `map`. */
  readonly dir: (diffId: Digest) => string;
  /** The whole index: head and windows. */
  readonly indexFile: string;
  readonly host: string;
  readonly repository: string;
  readonly bootId: string;
}

/** A file that was read, and in which of the daemon's reads first. */
export interface ReadFile {
  readonly path: string;
  readonly turn: number;
  /** Of a large file: what of it was read. */
  readonly part?: FilePart;
}

/**
 * One layer on this node: its EROFS image as a sparse file that fills span by span. Bytes come into the file only after
 * their span's SHA-256 matched.
 */
export class LazyLayer {
  readonly index: LayerHead;
  /** Directories that only other paths of the layer name: see `imageConflicts`. */
  readonly implied: readonly ByteString[];
  readonly entryCount: number;
  readonly imageBytes: number;
  readonly presence: Presence;
  /** Per block of the image the turn in which it was read first; the thread that answers reads writes it. */
  readonly turns: SharedArrayBuffer;
  /** The image as a file: whole only where the layer is complete. */
  readonly imagePath: string;
  readonly #deps: LayerDeps;
  #name: LayerName;
  readonly #extents: Extents;
  readonly #image: FileHandle;
  readonly #map: SpanMap;
  readonly #indexFile: FileHandle;
  readonly #indexPath: string;
  readonly #fetches: SpanFetches;
  readonly #ahead = new ReadAhead();
  readonly #spansNow = {
    isHere: (span: number): boolean => this.hasOrFetches(span),
    wasRead: (span: number): boolean => this.#wasRead(span),
  };
  #isAhead = false;
  readonly #abort = new AbortController();
  #completed: Promise<void> | undefined;

  private constructor(
    deps: LayerDeps,
    parts: Pick<LazyLayer, 'index' | 'implied' | 'entryCount' | 'imageBytes' | 'presence' | 'imagePath'> & {
      name: LayerName;
      extents: Extents;
      indexPath: string;
    },
    files: { image: FileHandle; map: SpanMap; indexFile: FileHandle },
  ) {
    this.#deps = deps;
    this.index = parts.index;
    this.implied = parts.implied;
    this.entryCount = parts.entryCount;
    this.imageBytes = parts.imageBytes;
    this.presence = parts.presence;
    this.#name = parts.name;
    this.imagePath = parts.imagePath;
    this.turns = new SharedArrayBuffer(turnBytes(parts.imageBytes));
    this.#extents = parts.extents;
    this.#indexPath = parts.indexPath;
    this.#image = files.image;
    this.#map = files.map;
    this.#indexFile = files.indexFile;
    this.#fetches = new SpanFetches({
      index: this.index,
      source: deps.source,
      name: () => this.#name,
      isStored: (span) => this.presence.has(span),
      window: async (span) => await this.#window(span),
      store: async (span, bytes) => await this.#store(span, bytes),
      onFetched: deps.onFetched,
      onMismatch: (error) => deps.onMismatch?.(this, error),
      signal: this.#abort.signal,
    });
  }

  /** @throws {CodedError} `INDEX_INVALID`, `LAYER_NOT_LAZY` */
  static async open(deps: LayerDeps, options: LayerOptions): Promise<LazyLayer> {
    const indexFile = await openHandle(options.indexFile, 'read');
    try {
      return await LazyLayer.#from(deps, options, indexFile);
    } catch (error) {
      await indexFile.close();
      throw error;
    }
  }

  static async #from(deps: LayerDeps, options: LayerOptions, indexFile: FileHandle): Promise<LazyLayer> {
    const head = await readHead(indexFile);
    const index = readIndexSpans(head);
    const at = { file: options.indexFile, head };
    const erofs = (await imageBehind(indexFile, index)) ?? (await deps.images.ask(at, { type: 'image' }));
    const { extents } = erofs;
    const dir = options.dir(index.diffId);
    const isFolderNew = (await mkdir(dir, { recursive: true, mode: 0o700 })) !== undefined;
    const imagePath = join(dir, 'image');
    const mapPath = join(dir, 'map');
    // Bits without the image that they are about mean nothing.
    if ((await sizeOf(imagePath)) !== erofs.sizeBytes) await diskFiles.unlink(mapPath);
    const { map, bits } = await SpanMap.open(mapPath, index.spans.length, options.bootId, isFolderNew);
    const isNew = bits.every((byte) => byte === 0);
    // A new file: the old one may still be mounted.
    const image = isNew ? await newHandle(imagePath) : await openHandle(imagePath, 'update');
    await image.truncate(erofs.sizeBytes);
    await image.write(erofs.meta, 0, erofs.meta.length, 0);
    const presence = new Presence(
      {
        spanOffsets: Float64Array.from(index.spans, (span) => span.offset),
        uncompressedBytes: index.uncompressedBytes,
        extents,
        metaBytes: erofs.meta.length,
        imageBytes: erofs.sizeBytes,
      },
      new SharedArrayBuffer(Presence.blockBytes(erofs.sizeBytes)),
    );
    for (let span = 0; span < index.spans.length; span++)
      if ((bits[span >> 3]! & (1 << (span & 7))) !== 0) presence.add(span);
    const name = { host: options.host, repository: options.repository, digest: index.layer };
    // Complete, but its process was killed before it said so.
    if (presence.isComplete) {
      await image.datasync();
      await map.markClean();
    }
    const { sizeBytes: imageBytes, implied } = erofs;
    const entryCount = indexEntries(head);
    const facts = { index, implied, entryCount, imageBytes, imagePath, indexPath: options.indexFile };
    return new LazyLayer(deps, { ...facts, presence, name, extents }, { image, map, indexFile });
  }

  /** The image file, for the thread that answers hits. */
  get fd(): number {
    return this.#image.fd;
  }

  get blocks(): SharedArrayBuffer {
    return this.presence.blocks.buffer as SharedArrayBuffer;
  }

  /**
   * Bytes of the image, fetched and verified where they are not there yet.
   * @throws {CodedError} `TIMEOUT`, `AUTH_DENIED`, `DIGEST_MISMATCH`, `LAYER_INVALID`
   */
  async read(offset: number, length: number): Promise<Buffer> {
    const missing = this.presence.missing(offset, length);
    if (missing.length > 0) await this.#readNow(missing);
    const bytes = Buffer.allocUnsafe(length);
    const { bytesRead } = await this.#image.read(bytes, 0, length, offset);
    if (bytesRead !== length)
      throw new CodedError('DISK_CORRUPT', {
        detail: { layer: this.index.layer, offset, expected: length, found: bytesRead },
      });
    return bytes;
  }

  /** The span is on disk, or on its way there. */
  hasOrFetches(span: number): boolean {
    return this.presence.has(span) || this.#fetches.has(span);
  }

  /** Bytes of the uncompressed layer within one file's content. @throws {CodedError} as {@link read} */
  async readContent(offset: number, length: number): Promise<Buffer> {
    const { image, layer, length: lengths } = this.#extents;
    const extent = lastAtMost(layer, offset);
    const from = offset - (layer[extent] ?? offset + 1);
    if (from < 0 || from + length > lengths[extent]!)
      throw new Error(`${offset} + ${length} of ${this.index.layer} is in no file`);
    return await this.read(image[extent]! + from, length);
  }

  /** Files whose content programs asked for since this daemon has the layer, in the order of their first reads. */
  async filesRead(): Promise<ReadFile[]> {
    const reads = firstReads(new Int32Array(this.turns), this.#extents);
    if (reads.length === 0) return [];
    const paths = await this.#deps.images.ask(await this.#index(), { type: 'files' });
    return reads.flatMap(({ extent, turn, part }) => {
      const path = paths.get(this.#extents.layer[extent]!);
      return path === undefined ? [] : [{ path, turn, ...(part === undefined ? {} : { part }) }];
    });
  }

  /** All of its tree, which takes hundreds of bytes an entry while it is held. */
  async tree(): Promise<TreeNode> {
    return await this.#deps.images.ask(await this.#index(), { type: 'tree' });
  }

  /** Where the content of these files is that it has. */
  async places(paths: readonly string[]): Promise<readonly FilePlace[]> {
    return await this.#deps.images.ask(await this.#index(), { type: 'places', paths });
  }

  /** What of its tree lies on the ways to these paths. */
  async outline(paths: readonly ByteString[]): Promise<TreeNode> {
    return await this.#deps.images.ask(await this.#index(), { type: 'outline', paths });
  }

  /** Reads go by this repository from now on: it was seen last to have the layer. */
  readFrom(host: string, repository: string): void {
    this.#name = { ...this.#name, host, repository };
  }

  /** Where reads go. */
  get image(): string {
    return `${this.#name.host}/${this.#name.repository}`;
  }

  /** Fetches spans that are not there and not on their way. @throws {CodedError} as {@link read} */
  async fetch(run: Run): Promise<void> {
    const spans = Array.from({ length: run.last - run.first + 1 }, (_none, index) => run.first + index);
    await this.#fetches.need(spans.filter((span) => !this.presence.has(span)));
  }

  /** What of it is on disk: its image is sparse. */
  async diskBytes(): Promise<number> {
    const [image, index] = await Promise.all([this.#image.stat(), this.#indexFile.stat()]);
    return 512 * (image.blocks + index.blocks);
  }

  /** Gives up what runs; its files on this disk go, except the index. */
  async remove(): Promise<void> {
    this.#abort.abort(new CodedError('DRAINING'));
    await Promise.allSettled([this.#fetches.ended(), this.#completed]);
    await rm(dirname(this.imagePath), { recursive: true, force: true });
    await Promise.all([this.#map.close(), this.#image.close(), this.#indexFile.close()]);
  }

  /** Gives up what runs, syncs the image and closes. */
  async close(): Promise<void> {
    this.#abort.abort(new CodedError('DRAINING'));
    await this.#fetches.ended();
    await this.#image.datasync();
    await this.#map.markClean();
    await this.#map.close();
    await this.#image.close();
    await this.#indexFile.close();
  }

  /** Fetches what somebody waits for; then, where the layer is read in order, what comes next. */
  async #readNow(missing: readonly number[]): Promise<void> {
    this.#ahead.waited(missing[0]!, missing.at(-1)!, this.#spansNow);
    await this.#fetches.need(missing);
    if (!this.#isAhead) void this.#goAhead();
  }

  /** One run after the other, for as long as its reader comes after. */
  async #goAhead(): Promise<void> {
    this.#isAhead = true;
    const { signal } = this.#abort;
    const next = (): Run | undefined => this.#ahead.ahead(this.index.spans.length, this.#spansNow);
    try {
      for (let run = next(); run !== undefined && !signal.aborted; run = next()) await this.fetch(run);
    } catch (error) {
      throwIfBug(error);
      // Whoever reads what did not come fetches it again.
      if (!signal.aborted) this.#deps.onAheadFailure?.(this, error);
    } finally {
      this.#isAhead = false;
    }
  }

  #wasRead(span: number): boolean {
    const turns = new Int32Array(this.turns);
    const pieces = this.presence.placements(span);
    return pieces.length === 0 || pieces.some(({ to }) => turns[Math.floor(to / IMAGE_BLOCK)] !== 0);
  }

  async #complete(): Promise<void> {
    await this.#image.datasync();
    await this.#map.markClean();
    this.#deps.onComplete(this);
  }

  async #index(): Promise<IndexAt> {
    return { file: this.#indexPath, head: await readHead(this.#indexFile) };
  }

  async #window(span: number): Promise<Buffer> {
    const { windowOffset, windowLength } = this.index.spans[span]!;
    const stored = Buffer.alloc(windowLength);
    if (windowLength > 0) await this.#indexFile.read(stored, 0, windowLength, windowOffset);
    return stored;
  }

  async #store(span: number, bytes: Buffer): Promise<void> {
    for (const { to, bytes: part } of joinedWrites(this.presence.placements(span), bytes))
      await this.#image.write(part, 0, part.length, to);
    this.presence.add(span);
    await this.#map.note(this.presence.spans, span);
    // Runs in parallel can all see the last span there: it is said once.
    if (!this.presence.isComplete) return;
    this.#completed ??= this.#complete();
    await this.#completed;
  }
}

/** Index of the last of ascending numbers that is at most `value`; -1 where all are above. */
function lastAtMost(sorted: Float64Array, value: number): number {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

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
async function imageBehind(file: FileHandle, index: LayerHead): Promise<MadeImage | undefined> {
  const { size } = await file.stat();
  const part = Buffer.alloc(Math.max(0, size - index.indexBytes));
  const { bytesRead } = await file.read(part, 0, part.length, index.indexBytes);
  return await readImagePart(part.subarray(0, bytesRead), index);
}

/** The head of an index, in memory of its own. @throws {CodedError} `INDEX_INVALID` */
async function readHead(file: FileHandle): Promise<Buffer> {
  const header = Buffer.alloc(INDEX_HEADER_BYTES);
  const { bytesRead } = await file.read(header, 0, header.length, 0);
  const head = Buffer.alloc(indexHeadBytes(header.subarray(0, bytesRead)));
  const { bytesRead: length } = await file.read(head, 0, head.length, 0);
  return head.subarray(0, length);
}

async function sizeOf(path: string): Promise<number | undefined> {
  const facts = await diskFiles.stat(path);
  return facts?.kind === 'file' ? facts.sizeBytes : undefined;
}
