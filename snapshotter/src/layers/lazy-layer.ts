import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Digest } from '@sepia/base/digest';
import { CodedError, takesNoWrites } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Extents } from '@sepia/lazy/erofs/extents';
import type { Conflict } from '@sepia/lazy/erofs/image-conflicts';
import type { MadeImage } from '@sepia/lazy/erofs/image-part';
import type { TreeNode } from '@sepia/lazy/erofs/layer-tree';
import { indexEntries, type LayerHead, readIndexSpans } from '@sepia/lazy/index/layer-index';
import type { ByteString } from '@sepia/lazy/tar/byte-string';
import type { readPart, writeAll } from '@sepia/store/files/disk-files';
import type { AgentSource } from './agent-source.ts';
import { firstReads, type ReadFile, turnBytes } from './core/first-reads.ts';
import { type LayerHome, withFirst, withLast } from './core/homes.ts';
import { IMAGE_BLOCK, lastAtMost, type Presence } from './core/presence.ts';
import { ReadAhead } from './core/read-ahead.ts';
import type { Run } from './core/runs.ts';
import type { SpareSpans } from './core/spare-spans.ts';
import { ImageFile, type Spare } from './image-file.ts';
import type { ImageMaker, IndexAt } from './image-process.ts';
import { IndexFile } from './index-file.ts';
import type { FilePlace } from './made-image.ts';
import { SpanFetches } from './span-fetches.ts';

interface LayerDeps {
  readonly images: ImageMaker;
  /** What the disk has no room for. */
  readonly spare: SpareSpans;
  /** Default: from the disk, and to it. */
  readonly readPart?: typeof readPart;
  readonly write?: typeof writeAll;
  readonly source: Pick<AgentSource, 'read'>;
  /** Bytes that came from the agent. */
  readonly onFetched: (bytes: number) => void;
  /** All of the layer is in its image file, on disk: once it is checked, the file can be mounted by itself. */
  readonly onComplete: (layer: LazyLayer) => void;
  /** Blocks changed on disk: they count as missing from now on. */
  readonly onDamage?: (layer: LazyLayer, blocks: number) => void;
  /** What the agent sends does not fit the index, again and again. */
  readonly onMismatch?: (layer: LazyLayer, error: CodedError) => void;
  /** The disk takes no writes any more, it is full or fails: what is read of it goes through memory. */
  readonly onFull?: (layer: LazyLayer, error: CodedError) => void;
  /** What comes next did not come; nobody waits for it yet. */
  readonly onAheadFailure?: (layer: LazyLayer, error: unknown) => void;
}

interface LayerOptions {
  /** Folder of a layer: `image`, `map`. */
  readonly dir: (diffId: Digest) => string;
  /** The whole index: head and windows. */
  readonly indexFile: string;
  /** The repository that it is read from at first. */
  readonly home: LayerHome;
  readonly bootId: string;
}

/** What a check reads at once. */
const CHECK_BYTES = 1024 * 1024;
/** What is damaged is fetched anew so often for one read. */
const DAMAGE_TRIES = 3;

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
  /** Per block of the image the turn in which it was read first; the thread that answers reads writes it. */
  readonly turns: SharedArrayBuffer;
  readonly #deps: LayerDeps;
  #hasWhiteouts: boolean | undefined;
  /** Never empty; the first is asked first. */
  #homes: readonly LayerHome[];
  readonly #extents: Extents;
  readonly #image: ImageFile;
  readonly #indexFile: IndexFile;
  readonly #fetches: SpanFetches;
  readonly #ahead = new ReadAhead();
  readonly #spansNow = {
    isHere: (span: number): boolean => this.hasOrFetches(span),
    wasRead: (span: number): boolean => this.#wasRead(span),
  };
  #isAhead = false;
  readonly #abort = new AbortController();
  #completed: Promise<void> | undefined;
  /** The file as it was when its last check began that found nothing. */
  #checkedAs: string | undefined;
  #damages = 0;

  private constructor(
    deps: LayerDeps,
    parts: Pick<LazyLayer, 'index' | 'implied' | 'entryCount' | 'imageBytes'> &
      Pick<MadeImage, 'hasWhiteouts' | 'extents'> & { home: LayerHome },
    files: { image: ImageFile; indexFile: IndexFile },
  ) {
    this.#deps = deps;
    this.index = parts.index;
    this.implied = parts.implied;
    this.#hasWhiteouts = parts.hasWhiteouts;
    this.entryCount = parts.entryCount;
    this.imageBytes = parts.imageBytes;
    this.#homes = [parts.home];
    this.turns = new SharedArrayBuffer(turnBytes(parts.imageBytes));
    this.#extents = parts.extents;
    this.#image = files.image;
    this.#indexFile = files.indexFile;
    this.#fetches = new SpanFetches({
      index: this.index,
      source: deps.source,
      homes: () => this.#homes,
      isStored: (span) => this.presence.has(span),
      window: async (span) => await this.#indexFile.window(this.index.spans[span]!),
      store: async (span, bytes) => await this.#store(span, bytes),
      onFetched: deps.onFetched,
      onMismatch: (error) => deps.onMismatch?.(this, error),
      signal: this.#abort.signal,
    });
  }

  /** @throws {CodedError} `INDEX_INVALID`, `LAYER_NOT_LAZY` */
  static async open(deps: LayerDeps, options: LayerOptions): Promise<LazyLayer> {
    const indexFile = await IndexFile.open(options.indexFile);
    try {
      return await LazyLayer.#from(deps, options, indexFile);
    } catch (error) {
      await indexFile.close();
      throw error;
    }
  }

  static async #from(deps: LayerDeps, options: LayerOptions, indexFile: IndexFile): Promise<LazyLayer> {
    const head = await indexFile.head();
    const index = readIndexSpans(head);
    const at = { file: options.indexFile, head };
    const made = async (): Promise<MadeImage> =>
      (await indexFile.image(index)) ?? (await deps.images.ask(at, { type: 'image' }));
    const { extents, hasWhiteouts, sizeBytes: imageBytes, implied, meta } = await made();
    let layer: LazyLayer | undefined;
    const image = await ImageFile.open(
      {
        onDamage: (blocks) => {
          if (layer !== undefined) layer.#damaged(blocks);
        },
        readPart: deps.readPart,
        write: deps.write,
        meta: async () => (await made()).meta,
      },
      { dir: options.dir(index.diffId), bootId: options.bootId, meta },
      {
        spanOffsets: Float64Array.from(index.spans, (span) => span.offset),
        uncompressedBytes: index.uncompressedBytes,
        extents,
        metaBytes: meta.length,
        imageBytes,
      },
    );
    const facts = { index, implied, hasWhiteouts, entryCount: indexEntries(head), imageBytes };
    layer = new LazyLayer(deps, { ...facts, home: options.home, extents }, { image, indexFile });
    return layer;
  }

  /** The image file, for the thread that answers hits. */
  get fd(): number {
    return this.#image.fd;
  }

  get blocks(): SharedArrayBuffer {
    return this.presence.blocks.buffer as SharedArrayBuffer;
  }

  get sums(): SharedArrayBuffer {
    return this.#image.sums.buffer as SharedArrayBuffer;
  }

  get presence(): Presence {
    return this.#image.presence;
  }

  /** The image as a file: whole only where the layer is complete. */
  get imagePath(): string {
    return this.#image.path;
  }

  /** It is complete, and this process read all of it again and found it right: it may be mounted by its file. */
  get isSound(): boolean {
    return this.#checkedAs !== undefined && this.presence.isComplete;
  }

  /**
   * Bytes of the image, fetched and verified where they are not there yet; by memory where the disk takes no writes.
   * @throws {CodedError} `TIMEOUT`, `AUTH_DENIED`, `DIGEST_MISMATCH`, `LAYER_INVALID`
   */
  async read(offset: number, length: number): Promise<Buffer> {
    const from = offset - (offset % IMAGE_BLOCK);
    const wanted = Math.ceil((offset + length) / IMAGE_BLOCK) * IMAGE_BLOCK - from;
    for (let tries = 0; tries < DAMAGE_TRIES; tries++) {
      const missing = this.presence.missing(from, wanted);
      const spare = missing.length > 0 ? await this.#readNow(missing) : undefined;
      const bytes = await this.#image.read(from, wanted, spare);
      if (bytes !== undefined) return bytes.subarray(offset - from, offset - from + length);
    }
    throw new CodedError('DISK_CORRUPT', { detail: { layer: this.index.layer, offset, length } });
  }

  /**
   * Reads all of a complete layer again; what is damaged is fetched anew. Where nothing was, it is sound.
   * @param pause called after each piece; false ends it
   * @throws {CodedError} as {@link read}
   */
  async check(pause: (bytes: number) => Promise<boolean>): Promise<void> {
    const damages = this.#damages;
    const stamp = await this.#image.stamp();
    for (let at = 0; at < this.imageBytes; at += CHECK_BYTES) {
      const length = Math.min(CHECK_BYTES, this.imageBytes - at);
      await this.read(at, length);
      if (!(await pause(length))) return;
    }
    const isWhole = this.presence.isComplete && this.#image.isOfDisk;
    if (isWhole && this.#damages === damages) this.#checkedAs = stamp;
  }

  /** It is sound, but somebody wrote to its file since. */
  async isTouched(): Promise<boolean> {
    return this.isSound && (await this.#image.stamp()) !== this.#checkedAs;
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

  /** Places in the image of the content of those of `paths` that the layer has. */
  async places(paths: readonly string[]): Promise<readonly FilePlace[]> {
    return await this.#deps.images.ask(await this.#index(), { type: 'places', paths });
  }

  /** What keeps it from being the lowest layer of an image. That nothing does is asked once: a pull waits for it. */
  async lowestConflict(): Promise<Conflict | undefined> {
    if (this.#hasWhiteouts === false) return undefined;
    const [found] = await this.#deps.images.ask(await this.#index(), { type: 'lowest' });
    this.#hasWhiteouts = found !== undefined;
    return found;
  }

  /** What of its tree lies on the ways to these paths. */
  async outline(paths: readonly ByteString[]): Promise<TreeNode> {
    return await this.#deps.images.ask(await this.#index(), { type: 'outline', paths });
  }

  /** This repository was seen to have the layer: now, and it is asked first; or `before`, and it is asked last. */
  readFrom(home: LayerHome, seen: 'now' | 'before' = 'now'): void {
    this.#homes = seen === 'now' ? withFirst(this.#homes, home) : withLast(this.#homes, home);
  }

  /** Where reads go. */
  get home(): LayerHome {
    return this.#homes[0]!;
  }

  /** Fetches spans that are not there and not on their way. @throws {CodedError} as {@link read}; `DISK_FULL` where the disk takes no writes */
  async fetch(run: Run): Promise<void> {
    const spans = Array.from({ length: run.last - run.first + 1 }, (_none, index) => run.first + index);
    const unstored = await this.#fetches.need(spans.filter((span) => !this.presence.has(span)));
    const why = { message: 'disk takes no writes', detail: { layer: this.index.layer } };
    if (unstored.size > 0) throw new CodedError('DISK_FULL', why);
  }

  /** What of it is on disk: its image is sparse. */
  async diskBytes(): Promise<number> {
    const [image, index] = await Promise.all([this.#image.diskBytes(), this.#indexFile.diskBytes()]);
    return image + index;
  }

  /** Gives up what runs; its files on this disk go, except the index. */
  async remove(): Promise<void> {
    this.#abort.abort(new CodedError('DRAINING'));
    await Promise.allSettled([this.#fetches.ended(), this.#completed]);
    this.#deps.spare.forget(this.imagePath);
    const close = async () => void (await Promise.all([this.#image.close(), this.#indexFile.close()]));
    await rm(dirname(this.imagePath), { recursive: true, force: true }).finally(close);
  }

  /** Gives up what runs, syncs the image and closes. */
  async close(): Promise<void> {
    this.#abort.abort(new CodedError('DRAINING'));
    await this.#fetches.ended();
    await this.#image.markClean();
    await this.#image.close();
    await this.#indexFile.close();
  }

  /**
   * Fetches what somebody waits for; then, where the layer is read in order, what comes next.
   * @returns what is not on disk
   */
  async #readNow(missing: readonly number[]): Promise<Spare> {
    const { spare } = this.#deps;
    const kept = spare.of(this.imagePath, missing);
    this.#ahead.waited(missing[0]!, missing.at(-1)!, this.#spansNow);
    for (const [span, bytes] of await this.#fetches.need(missing.filter((one) => !kept.has(one)))) {
      kept.set(span, bytes);
      spare.put(this.imagePath, span, bytes);
    }
    if (!this.#isAhead && !spare.isFull(performance.now())) void this.#goAhead();
    return kept;
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
    const lack = await this.#image.markClean();
    if (lack === undefined) this.#deps.onComplete(this);
    else this.#noteNoWrites(lack);
  }

  #damaged(blocks: number): void {
    this.#damages += 1;
    this.#checkedAs = undefined;
    this.#completed = undefined;
    this.#deps.onDamage?.(this, blocks);
  }

  async #index(): Promise<IndexAt> {
    return { file: this.#indexFile.path, head: await this.#indexFile.head() };
  }

  async #store(span: number, bytes: Buffer): Promise<boolean> {
    const { spare } = this.#deps;
    try {
      await this.#image.store(span, bytes);
    } catch (error) {
      if (!takesNoWrites(error)) throw error;
      this.#noteNoWrites(error);
      return false;
    }
    spare.drop(this.imagePath, span);
    // Runs in parallel can all see the last span there: it is said once.
    if (!this.presence.isComplete) return true;
    this.#completed ??= this.#complete();
    await this.#completed;
    return true;
  }

  #noteNoWrites(why: CodedError): void {
    if (this.#deps.spare.noteFull(performance.now())) this.#deps.onFull?.(this, why);
  }
}
