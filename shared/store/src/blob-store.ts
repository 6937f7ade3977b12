import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { type Digest, digestAlgorithm, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { allEnded, ignoreFailure } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PieceHasher } from '@sepia/metainfo/tree';
import { type Beside, BlobFiles, type StoreLog } from './blob-files.ts';
import { BlobHandle } from './blob-handle.ts';
import type { Budget } from './core/eviction.ts';
import { ACCESS_GRAIN_MS, KEEP_HOUSE_MS, MAP_DELAY_MS, PARTIAL_MS } from './deadlines.ts';
import { type EvictionResult, Evictor } from './evictor.ts';
import { Asides } from './files/asides.ts';
import type { FilePort } from './files/file-port.ts';
import { Housekeeping } from './house/housekeeping.ts';
import type { PartialBlob } from './partial-blob.ts';
import { PartialFolder, type PartialInit } from './partial-folder.ts';
import { type BlobAttrs, type Provenance, withProvenance } from './sidecar.ts';
import { HeldRoom, UploadFile } from './upload-file.ts';
import { type ListedBlob, listBeside, listBlobs, UsageCounter, unlistedBlobs } from './usage.ts';

export interface BlobStoreDeps {
  readonly files: FilePort;
  /** `DIR/v1`; must exist. See `DataFolder`. */
  readonly dir: string;
  readonly log: StoreLog;
  readonly nowMs: () => number;
  /** Hears of pushed blobs that came and of blobs that went, before the caller is told. */
  readonly index?: {
    added(digest: Digest, sizeBytes: number): Promise<void>;
    removed(digest: Digest): Promise<void>;
  };
  /** A further veto on evictions (under-replicated, of mode `none`). Default: none. */
  readonly mayEvict?: (digest: Digest, attrs: BlobAttrs) => boolean | Promise<boolean>;
}

export interface BlobStoreOptions {
  /** Origins sync file, sidecar and folder before anything is acknowledged; agents do not. */
  readonly durable: boolean;
  /** No eviction without it. */
  readonly budgetBytes?: number;
  readonly highWatermark?: number;
  readonly lowWatermark?: number;
  /** Decides whether piece maps are believed (`DataFolder.bootId`). Default: never believed unless synced. */
  readonly bootId?: string;
  /** How long a piece map may lag behind its pieces. */
  readonly mapDelayMs?: number;
  /** Access times are kept no finer than this. */
  readonly accessGrainMs?: number;
  /** Partials that nobody touched for so long are removed. */
  readonly partialTtlMs?: number;
  /** What is kept is looked after this often. */
  readonly keepHouseMs?: number;
}

const BLOB_STORE_DEFAULTS: Readonly<Required<Omit<BlobStoreOptions, 'durable' | 'bootId'>>> = Object.freeze({
  budgetBytes: Number.POSITIVE_INFINITY,
  highWatermark: 0.9,
  lowWatermark: 0.8,
  mapDelayMs: MAP_DELAY_MS,
  accessGrainMs: ACCESS_GRAIN_MS,
  partialTtlMs: PARTIAL_MS,
  keepHouseMs: KEEP_HOUSE_MS,
});

/** What is known of a blob without reading it. */
export interface BlobStat {
  readonly sizeBytes: number;
  readonly attrs: BlobAttrs;
}

const UPLOAD_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/;
const ACCESSES_REMEMBERED = 65_536;

/**
 * Content-addressed store of one member. A blob appears by rename after its digest was checked, and is trusted at
 * `open`: the start does not look at blobs. All methods may run at once; writers of one digest join.
 */
export class BlobStore {
  readonly #deps: BlobStoreDeps;
  readonly #options: typeof BLOB_STORE_DEFAULTS;
  readonly #asides: Asides;
  readonly #blobs: BlobFiles;
  readonly #partials: PartialFolder;
  readonly #usage = new UsageCounter();
  readonly #evictor: Evictor;
  readonly #house: Housekeeping<EvictionResult>;
  readonly #opened = new Map<Digest, number>();
  readonly #uploads = new Map<string, UploadFile>();
  readonly #held = new HeldRoom();
  readonly #touches = new Set<Promise<void>>();
  readonly #accessed = new LatestMap<Digest, number>(ACCESSES_REMEMBERED);
  readonly #evictedListeners = new Set<(digest: Digest, sizeBytes: number) => void>();
  readonly #tightListeners = new Set<() => void>();
  #closing: Promise<void> | undefined;

  private constructor(given: BlobStoreDeps, options: BlobStoreOptions) {
    this.#asides = new Asides(given.log);
    const deps = { ...given, files: this.#asides.watch(given.files) };
    this.#deps = deps;
    this.#options = { ...BLOB_STORE_DEFAULTS, ...options };
    this.#blobs = new BlobFiles(deps, { durable: options.durable });
    this.#blobs.changes = {
      added: (...args) => {
        this.#usage.added(...args);
        this.#house.evictWhenDue();
      },
      removed: (...args) => this.#usage.removed(...args),
      ...(deps.index === undefined
        ? {}
        : {
            pushed: async (...args) => await deps.index?.added(...args),
            gone: async (digest) => await deps.index?.removed(digest),
          }),
    };
    const { mapDelayMs, budgetBytes, highWatermark, lowWatermark } = this.#options;
    this.#partials = new PartialFolder(
      { blobs: this.#blobs },
      { bootId: options.bootId ?? randomUUID(), mapDelayMs },
    );
    this.#evictor = new Evictor(
      {
        blobs: this.#blobs,
        usage: this.#usage,
        partialBytes: () => this.#partials.bytes,
        isOpen: (digest) => this.#opened.has(digest),
        mayEvict: deps.mayEvict ?? (() => true),
        onEvicted: (digest, sizeBytes) => {
          for (const listener of this.#evictedListeners) listener(digest, sizeBytes);
        },
      },
      { budgetBytes, highWatermark, lowWatermark },
    );
    this.#house = new Housekeeping(
      {
        ...{ log: deps.log, evictor: this.#evictor },
        count: async (stopped) => await this.#count(stopped),
        sweep: async () => await this.expirePartials(),
        lookAside: async () => await this.#asides.look(deps.files),
        onTight: () => {
          for (const listener of this.#tightListeners) listener();
        },
      },
      { everyMs: this.#options.keepHouseMs },
    );
  }

  /** Opens the store in an existing folder; unfinished uploads of a former process are removed. */
  static async open(deps: BlobStoreDeps, options: BlobStoreOptions): Promise<BlobStore> {
    const store = new BlobStore(deps, options);
    const { folders, layout, files } = store.#blobs;
    for (const folder of [layout.partials, layout.uploads]) await folders.ensure(folder, layout.root);
    for (const name of await files.list(layout.uploads)) await files.unlink(join(layout.uploads, name));
    return store;
  }

  /** Sets another budget; what is above it is evicted at once. */
  adjust(budget: Budget): void {
    this.#evictor.adjust(budget);
    this.#house.evictWhenDue();
  }

  async has(digest: Digest): Promise<boolean> {
    return (await this.#blobs.find(digest)) !== undefined;
  }

  /** Undefined if it is not here, or not with its right size. */
  async stat(digest: Digest): Promise<BlobStat | undefined> {
    const sidecar = await this.#blobs.find(digest);
    return sidecar && { sizeBytes: sidecar.sizeBytes, attrs: sidecar.attrs };
  }

  /** Metainfo of a blob, which counts as a use of it, and its attributes; undefined as {@link stat}. */
  async tell(
    digest: Digest,
  ): Promise<{ readonly metainfo: Metainfo; readonly attrs: BlobAttrs } | undefined> {
    const sidecar = await this.#blobs.find(digest);
    if (sidecar === undefined) return undefined;
    const { sizeBytes, layer, attrs } = sidecar;
    this.#noteAccess(digest);
    return { metainfo: Metainfo.final(digest, sizeBytes, layer), attrs };
  }

  /**
   * Opens for reading; undefined if it is not here. The blob is not evicted while the handle is open. `isLook`: it is
   * no use of the blob, which is evicted as early as before.
   */
  async open(digest: Digest, options: { readonly isLook?: boolean } = {}): Promise<BlobHandle | undefined> {
    this.#opened.set(digest, (this.#opened.get(digest) ?? 0) + 1);
    try {
      const sidecar = await this.#blobs.find(digest);
      const file = sidecar && (await this.#blobs.openFile(digest));
      if (sidecar !== undefined && file !== undefined) {
        const leafFile = this.#blobs.leafFile(digest, sidecar.sizeBytes);
        if (options.isLook !== true) this.#noteAccess(digest);
        return new BlobHandle({ sidecar, file, leafFile, onClose: () => this.#letGo(digest) });
      }
    } catch (error) {
      this.#letGo(digest);
      throw error;
    }
    this.#letGo(digest);
    return undefined;
  }

  /** Stores small content at once, and `beside` with it; its attributes as they are now. @throws `DIGEST_MISMATCH`, `DISK_FULL` */
  async putBytes(digest: Digest, bytes: Uint8Array, attrs: BlobAttrs, beside?: Beside): Promise<BlobAttrs> {
    const found = digestOf(bytes, digestAlgorithm(digest));
    if (found !== digest) throw new CodedError('DIGEST_MISMATCH', { detail: { expected: digest, found } });
    const hasher = new PieceHasher();
    hasher.update(bytes);
    const blob = { digest, sizeBytes: bytes.length, layer: hasher.finish(), attrs, beside };
    return await this.#blobs.installBytes(blob, bytes);
  }

  /**
   * The one partial of a digest: made, taken up from a former process, or shared with who has it open. Call its
   * `release` once. Its attempt may differ from `init`: see `PartialBlob.learn`. @throws `SIZE_MISMATCH`, `DISK_FULL`
   */
  openPartial(digest: Digest, sizeBytes: number, init: PartialInit = {}): Promise<PartialBlob> {
    return this.#partials.open(digest, sizeBytes, init);
  }

  /**
   * Writes a right copy of a damaged piece over it; false if the blob is not here. Readers go on meanwhile.
   * @throws `PIECE_BAD` if `bytes` are not that piece, `DISK_FULL`, `DISK_CORRUPT`
   */
  async mendPiece(digest: Digest, piece: number, bytes: Uint8Array): Promise<boolean> {
    return (await this.#blobs.mendPiece(digest, piece, bytes)) === true;
  }

  /** Begins an upload. @throws `UPLOAD_INVALID` if `id` is not 1–128 of `A–Z a–z 0–9 . _ -` or is in use */
  async createUpload(id: string): Promise<UploadFile> {
    if (!UPLOAD_ID.test(id) || id.startsWith('tmp-') || this.#uploads.has(id))
      throw new CodedError('UPLOAD_INVALID', { detail: { id } });
    const upload = new UploadFile(id, {
      blobs: this.#blobs,
      path: join(this.#blobs.layout.uploads, id),
      room: this.#held,
      onClosed: () => this.#uploads.delete(id),
    });
    this.#uploads.set(id, upload);
    return upload;
  }

  /** An open upload of this process. */
  upload(id: string): UploadFile | undefined {
    return this.#uploads.get(id);
  }

  /** Notes where a blob was seen; false if it is not here. */
  async addProvenance(digest: Digest, one: Provenance): Promise<boolean> {
    const changed = await this.setAttrs(digest, (attrs) => {
      const provenance = withProvenance(attrs.provenance, one);
      return provenance === attrs.provenance ? attrs : { ...attrs, provenance };
    });
    return changed !== undefined;
  }

  /** Changes attributes, durably if the store is; undefined if the blob is not here. */
  setAttrs(
    digest: Digest,
    change: Partial<BlobAttrs> | ((attrs: BlobAttrs) => BlobAttrs),
  ): Promise<BlobAttrs | undefined> {
    return this.#blobs.change(
      digest,
      typeof change === 'function' ? change : (attrs) => ({ ...attrs, ...change }),
    );
  }

  /**
   * Removes a blob unless `stays` says so at the last moment, when nobody can write it, by its attributes of then (undefined
   * where they are not known); open handles still read. Returns the bytes freed.
   */
  async deleteUnless(digest: Digest, stays: (attrs: BlobAttrs | undefined) => boolean): Promise<number> {
    return await this.#blobs.remove(digest, (sidecar) => stays(sidecar?.attrs));
  }

  /** Removes a blob, whatever its class; open handles still read. Returns false if it was not here. */
  async delete(digest: Digest): Promise<boolean> {
    const path = this.#blobs.layout.blob(digest);
    if ((await this.#deps.files.stat(path)) === undefined) return false;
    await this.#blobs.remove(digest);
    return true;
  }

  /** Every blob file in order of the digests, from behind `after`, with its size and coarse access time. */
  list(after?: Digest): AsyncGenerator<ListedBlob, void, void> {
    return listBlobs(this.#blobs, undefined, after);
  }

  /** Those of `digests`, which come in order, that had no file when their folder was read; what came since is among them. */
  unlisted(digests: AsyncIterable<Digest>): AsyncGenerator<Digest, void, void> {
    return unlistedBlobs(this.#blobs, digests);
  }

  /** In words, for `/readyz`: folders that lay where files belong, and what could not be done for want of the disk. */
  get warnings(): string[] {
    return [...this.#asides.warnings, ...this.#house.warnings];
  }

  /** Bytes of all blobs; grows to the truth while `reconcile` counts. */
  usage(): number {
    return this.#usage.bytes;
  }

  /** Evicts, least recently used first, down to the low watermark if usage is above the high one. */
  evict(): Promise<EvictionResult> {
    return this.#house.evict();
  }

  /** Removes partials that nobody has open and nobody touched for long; done at the start and every few minutes. */
  expirePartials(): Promise<number> {
    return this.#partials.sweep(this.#deps.nowMs() - this.#options.partialTtlMs);
  }

  /** Calls `listener` for each evicted blob (not for deleted ones). Returns the way to stop it. */
  onEvicted(listener: (digest: Digest, sizeBytes: number) => void): () => void {
    this.#evictedListeners.add(listener);
    return () => this.#evictedListeners.delete(listener);
  }

  /** Calls `listener` when an eviction ends above the high watermark: what could go is open. Returns the way to stop it. */
  onTight(listener: () => void): () => void {
    this.#tightListeners.add(listener);
    return () => this.#tightListeners.delete(listener);
  }

  /**
   * Behind the start: counts usage, removes sidecars without blob and stale partials, evicts. Runs once.
   * @throws what kept it from that; it is tried again by itself, and told until then
   */
  reconcile(): Promise<void> {
    return this.#house.begin();
  }

  /** Ends what runs, drops uploads, syncs and closes partials. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    await this.#house.stop();
    // What one of them cannot for want of a disk keeps no other open.
    const uploads = allEnded([...this.#uploads.values()].map((upload) => upload.drop()));
    const parts = [uploads, this.#partials.close()];
    await Promise.allSettled(parts);
    await this.#blobs.idle();
    await Promise.all(this.#touches);
    await allEnded(parts);
  }

  async #count(stopped: () => boolean): Promise<object> {
    await this.#usage.count(this.#blobs, stopped);
    let orphans = 0;
    for (const kind of ['meta', 'leaves'] as const) {
      const beside = listBeside(this.#blobs, kind, stopped);
      for await (const digest of unlistedBlobs(this.#blobs, beside))
        if (await this.#blobs.removeOrphan(digest)) orphans += 1;
    }
    return { usedBytes: this.#usage.bytes, orphans };
  }

  #letGo(digest: Digest): void {
    const left = (this.#opened.get(digest) ?? 1) - 1;
    if (left === 0) this.#opened.delete(digest);
    else this.#opened.set(digest, left);
  }

  #noteAccess(digest: Digest): void {
    const nowMs = this.#deps.nowMs();
    if (nowMs - (this.#accessed.get(digest) ?? Number.NEGATIVE_INFINITY) < this.#options.accessGrainMs)
      return;
    this.#accessed.set(digest, nowMs);
    const touch = this.#deps.files
      .touch(this.#blobs.layout.blob(digest), nowMs)
      .catch(ignoreFailure)
      .finally(() => this.#touches.delete(touch));
    this.#touches.add(touch);
  }
}
