import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { KeyedLocks } from '@sepia/base/async/keyed-locks';
import { SingleFlight } from '@sepia/base/async/single-flight';
import { type Digest, Digester, digestAlgorithm } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { allEnded, ignoreFailure, throwIfBug } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import type { Logger } from '@sepia/base/log';
import { forgetsAtRest } from '@sepia/base/memory/at-rest';
import { HASH_BYTES, PIECE_BYTES, PieceHasher, pieceHash } from '@sepia/metainfo/tree';
import {
  type FileFacts,
  type FilePort,
  type OpenFile,
  openExisting,
  readWhole,
  replaceWhole,
} from './files/file-port.ts';
import { Folders } from './folders.ts';
import { Layout } from './layout.ts';
import { LEAFLESS_BYTES, LeafCache, LeafFile } from './rot/leaf-file.ts';
import { type BlobAttrs, decodeSidecar, encodeSidecar, mergeAttrs, type Sidecar } from './sidecar.ts';

/** What the store needs of a logger. */
export type StoreLog = Pick<Logger, 'debug' | 'info' | 'warn' | 'error'>;

/** Sidecars kept in memory, and up to which size of piece layer. */
const CACHED_SIDECARS = 512;
const CACHED_LAYER_BYTES = 64 * 1024;

/** A finished, verified file that shall become a blob. */
export interface Installation extends Sidecar {
  /** Where it lies now; it is renamed from there. */
  readonly path: string;
  readonly file: OpenFile;
  /** Where its leaf hashes lie now, if they are kept; renamed from there too. */
  readonly leavesPath?: string;
  /** See {@link Beside}. */
  readonly beside?: Beside | undefined;
}

/**
 * What is to be durable with a blob: begun once its bytes, sidecar and name are, and ended before its caller is told. Beside
 * the note of a pushed blob, so that one sync of the database takes both.
 */
export type Beside = () => Promise<void>;

/** Hears of every blob that came or went, under the lock of its digest. */
export interface BlobChanges {
  added(digest: Digest, sizeBytes: number, replacedBytes: number): void;
  removed(digest: Digest, sizeBytes: number): void;
  /** A pushed blob is durable; the write goes on when this resolves. */
  pushed?(digest: Digest, sizeBytes: number): Promise<void>;
  /** A blob went, or a pushed one is none any more; what was done goes on when this resolves. */
  gone?(digest: Digest): Promise<void>;
}

/** Blobs and their sidecars as files: the only place that makes a blob appear, change or go. */
export class BlobFiles {
  readonly files: FilePort;
  readonly layout: Layout;
  readonly folders: Folders;
  readonly log: StoreLog;
  readonly durable: boolean;
  changes: BlobChanges = { added: () => undefined, removed: () => undefined };
  readonly #locks = new KeyedLocks<Digest>();
  readonly #sidecars = new LatestMap<Digest, Sidecar>(CACHED_SIDECARS);
  /** Sidecars that were written: what was read beside one may be of before. */
  #written = 0;
  readonly leafCache = new LeafCache();
  readonly #rebuilds = new SingleFlight<Digest, Sidecar | undefined>();
  /** What the names of its temporary files begin with, and how many there were. */
  readonly #temporaryName = `tmp-${randomBytes(12).toString('hex')}`;
  #temporaries = 0;

  constructor(deps: { files: FilePort; dir: string; log: StoreLog }, options: { readonly durable: boolean }) {
    this.files = deps.files;
    this.log = deps.log;
    this.layout = new Layout(deps.dir);
    this.folders = new Folders(deps.files, options);
    this.durable = options.durable;
    forgetsAtRest(this);
  }

  forgetAll(): void {
    this.#sidecars.clear();
  }

  /** A name under `uploads/` that nothing uses; leftovers there are removed at start. */
  temporary(): string {
    return join(this.layout.uploads, `${this.#temporaryName}-${this.#temporaries++}`);
  }

  /**
   * The sidecar of a blob that is there with its right size, else undefined. When durable, what is found stays
   * there over a power loss. A damaged or lost sidecar is made again from the blob, if that matches its digest.
   */
  async find(digest: Digest): Promise<Sidecar | undefined> {
    if (this.durable) await this.#locks.idle(digest);
    const found = await this.#load(digest);
    if (found === undefined || !this.durable) return found;
    await this.folders.settle(this.layout.blobShard(digest), this.layout.root);
    await this.folders.settle(this.layout.sidecarShard(digest), this.layout.root);
    return found;
  }

  /** The file of a blob for reading; undefined where {@link find} finds none. Close it. */
  async openFile(digest: Digest): Promise<OpenFile | undefined> {
    const path = this.layout.blob(digest);
    return await this.#missingIfUnread(digest, async () => await openExisting(this.files, path));
  }

  /** What lies at the place of a blob; `unread` where the disk does not say, and the blob can be fetched again. */
  async facts(digest: Digest): Promise<FileFacts | 'unread' | undefined> {
    try {
      return await this.files.stat(this.layout.blob(digest));
    } catch (error) {
      if (this.durable || !isCoded(error, 'DISK_CORRUPT')) throw error;
      return 'unread';
    }
  }

  /** The leaf hashes of a blob that is there. Close it. */
  leafFile(digest: Digest, sizeBytes: number): LeafFile {
    const { files, leafCache: cache, log, layout } = this;
    const makeFolder = (): Promise<void> => this.folders.ensure(layout.leavesShard(digest), layout.root);
    return new LeafFile(
      { files, cache, log, path: layout.leaves(digest), makeFolder },
      { digest, sizeBytes },
    );
  }

  /**
   * Makes a verified file a blob: file synced and sidecar synced and in place, then the rename, then its folder synced
   * (syncs when durable). A blob that is there is replaced by the same bytes, its attributes merged: those that it has now.
   * The folder of a pushed one's sidecar is synced beside its own: without its sidecar it counts as pushed all the same.
   */
  async install(blob: Installation): Promise<BlobAttrs> {
    const { digest, sizeBytes, layer } = blob;
    return await this.#locks.run(digest, async () => {
      const before = await this.#load(digest);
      const replacedBytes = before?.sizeBytes ?? (await this.#unreadBytes(digest));
      const attrs = before === undefined ? blob.attrs : mergeAttrs(before.attrs, blob.attrs);
      const sidecarFolder = this.layout.sidecarShard(digest);
      const isPushed = attrs.class === 'pushed';
      await this.folders.ensure(this.layout.blobShard(digest), this.layout.root);
      await allEnded([
        this.durable ? blob.file.sync() : Promise.resolve(),
        this.#renameSidecar({ digest, sizeBytes, layer, attrs }),
      ]);
      if (!isPushed) await this.folders.sync(sidecarFolder);
      if (blob.leavesPath !== undefined && sizeBytes > LEAFLESS_BYTES)
        await this.#installLeaves(digest, blob.leavesPath);
      await this.files.rename(blob.path, this.layout.blob(digest));
      try {
        await allEnded([
          this.folders.sync(this.layout.blobShard(digest)),
          isPushed ? this.folders.sync(sidecarFolder) : undefined,
        ]);
      } catch (error) {
        // One that was there before was acknowledged: whichever of both the disk keeps, the bytes are the same.
        if (before === undefined) await this.files.unlink(this.layout.blob(digest)).catch(ignoreFailure);
        throw error;
      }
      this.changes.added(digest, sizeBytes, replacedBytes);
      await allEnded([isPushed ? this.changes.pushed?.(digest, sizeBytes) : undefined, blob.beside?.()]);
      return attrs;
    });
  }

  /** As {@link install}, of verified bytes that no file has yet. */
  async installBytes(blob: Sidecar & Pick<Installation, 'beside'>, bytes: Uint8Array): Promise<BlobAttrs> {
    const path = this.temporary();
    const file = await this.files.open(path, 'create');
    try {
      await file.write(bytes, 0);
      return await this.install({ ...blob, path, file });
    } catch (error) {
      await this.files.unlink(path).catch(ignoreFailure);
      throw error;
    } finally {
      await file.close();
    }
  }

  /** Changes the attributes of a blob; undefined if there is none. Writes nothing if `change` returns the same object. */
  async change(digest: Digest, change: (attrs: BlobAttrs) => BlobAttrs): Promise<BlobAttrs | undefined> {
    return this.#locks.run(digest, async () => {
      const sidecar = await this.#load(digest);
      if (sidecar === undefined) return undefined;
      const attrs = change(sidecar.attrs);
      if (attrs === sidecar.attrs) return attrs;
      await this.#writeSidecar({ ...sidecar, attrs });
      if (attrs.class === 'pushed') await this.changes.pushed?.(digest, sidecar.sizeBytes);
      // It is no pushed blob any more: it can be fetched again.
      else if (sidecar.attrs.class === 'pushed') await this.changes.gone?.(digest);
      return attrs;
    });
  }

  /** Removes a blob unless `unless` says so at the last moment; returns the bytes freed. The sidecar goes last. */
  async remove(
    digest: Digest,
    unless: (sidecar: Sidecar | undefined) => boolean = () => false,
  ): Promise<number> {
    return this.#locks.run(digest, async () => {
      // What it finds damaged goes by its path: that may not be what comes after this.
      await this.#rebuilds.idle(digest);
      const path = this.layout.blob(digest);
      const facts = await this.files.stat(path);
      const sidecar = await this.#readSidecar(digest);
      if (unless(sidecar)) return 0;
      await this.#drop(digest, facts !== undefined);
      if (facts?.kind !== 'file') return 0;
      this.changes.removed(digest, facts.sizeBytes);
      await this.changes.gone?.(digest);
      return facts.sizeBytes;
    });
  }

  /**
   * Writes a piece over a damaged one, in its place. Bytes that match the piece's hash are the only ones that are ever
   * written, so that a crash in the middle leaves a damaged piece, as before, and every other piece as it was.
   * Undefined if the blob is not here. @throws `PIECE_BAD` if `bytes` are not that piece, `DISK_FULL`, `DISK_CORRUPT`
   */
  async mendPiece(digest: Digest, piece: number, bytes: Uint8Array): Promise<true | undefined> {
    return this.#locks.run(digest, async () => {
      const sidecar = await this.#load(digest);
      if (sidecar === undefined) return undefined;
      const hash = sidecar.layer.subarray(piece * HASH_BYTES, (piece + 1) * HASH_BYTES);
      if (Buffer.compare(pieceHash(bytes), hash) !== 0)
        throw new CodedError('PIECE_BAD', { detail: { digest, piece } });
      const file = await openExisting(this.files, this.layout.blob(digest), 'update');
      if (file === undefined) return undefined;
      try {
        await file.write(bytes, piece * PIECE_BYTES);
        if (this.durable) await file.sync();
      } finally {
        await file.close();
      }
      return true;
    });
  }

  /** Removes a sidecar or leaf hashes whose blob is gone. */
  async removeOrphan(digest: Digest): Promise<boolean> {
    return this.#locks.run(digest, async () => {
      if ((await this.files.stat(this.layout.blob(digest))) !== undefined) return false;
      await this.files.unlink(this.layout.leaves(digest));
      await this.files.unlink(this.layout.sidecar(digest));
      this.#sidecars.delete(digest);
      return true;
    });
  }

  /** Resolves when everything begun on any digest has ended. */
  async idle(): Promise<void> {
    await this.#locks.allIdle();
    await this.#rebuilds.idle();
  }

  async #drop(digest: Digest, present: boolean): Promise<void> {
    this.leafCache.forget(this.layout.leaves(digest));
    this.#sidecars.delete(digest);
    await this.files.unlink(this.layout.blob(digest));
    if (present) await this.folders.sync(this.layout.blobShard(digest));
    await this.files.unlink(this.layout.leaves(digest));
    await this.files.unlink(this.layout.sidecar(digest));
  }

  /** Never synced, and no loss if it fails: they are made again from the blob. */
  async #installLeaves(digest: Digest, from: string): Promise<void> {
    await this.folders.ensure(this.layout.leavesShard(digest), this.layout.root);
    try {
      await this.files.rename(from, this.layout.leaves(digest));
    } catch (error) {
      throwIfBug(error);
      this.log.debug({ digest, reason: String(error) }, 'leaf hashes are not kept');
    }
  }

  async #load(digest: Digest): Promise<Sidecar | undefined> {
    return await this.#missingIfUnread(digest, async () => await this.#look(digest));
  }

  /** Size of the file at the place of a blob that is missing all the same: it was counted, and is replaced. */
  async #unreadBytes(digest: Digest): Promise<number> {
    const facts = await this.facts(digest);
    return facts !== undefined && facts !== 'unread' && facts.kind === 'file' ? facts.sizeBytes : 0;
  }

  /**
   * Treats a blob that the disk cannot read as missing where it can be fetched again. Where the store is `durable` the error
   * stands: this may be the last copy.
   */
  async #missingIfUnread<T>(digest: Digest, read: () => Promise<T>): Promise<T | undefined> {
    try {
      return await read();
    } catch (error) {
      if (this.durable || !isCoded(error, 'DISK_CORRUPT')) throw error;
      this.log.warn({ digest, reason: error.message }, 'the disk does not read a blob: treated as missing');
      return undefined;
    }
  }

  async #look(digest: Digest): Promise<Sidecar | undefined> {
    const facts = await this.files.stat(this.layout.blob(digest));
    if (facts === undefined) return undefined;
    if (facts.kind !== 'file') {
      this.log.warn({ digest }, 'what lies at the place of a blob is no file: treated as missing');
      return undefined;
    }
    const sidecar = await this.#readSidecar(digest);
    if (sidecar === undefined)
      return await this.#rebuilds.share(digest, async () => await this.#rebuild(digest));
    if (sidecar.sizeBytes === facts.sizeBytes) return sidecar;
    this.log.warn(
      { digest, expected: sidecar.sizeBytes, found: facts.sizeBytes },
      'blob has a wrong size: treated as missing',
    );
    return undefined;
  }

  async #readSidecar(digest: Digest): Promise<Sidecar | undefined> {
    const cached = this.#sidecars.get(digest);
    if (cached !== undefined) return cached;
    const written = this.#written;
    const bytes = await readWhole(this.files, this.layout.sidecar(digest));
    if (bytes === undefined) return undefined;
    try {
      const sidecar = decodeSidecar(bytes);
      if (sidecar.digest === digest) return this.#written === written ? this.#cache(sidecar) : sidecar;
      this.log.warn({ digest, found: sidecar.digest }, 'sidecar is of another blob');
    } catch (error) {
      if (!isCoded(error, 'DISK_CORRUPT')) throw error;
      this.log.warn({ digest, reason: error.message }, 'sidecar does not read');
    }
    return undefined;
  }

  async #writeSidecar(sidecar: Sidecar): Promise<void> {
    await this.#renameSidecar(sidecar);
    await this.folders.sync(this.layout.sidecarShard(sidecar.digest));
  }

  /** Its name survives a power loss once its folder is synced. */
  async #renameSidecar(sidecar: Sidecar): Promise<void> {
    const { digest } = sidecar;
    await this.folders.ensure(this.layout.sidecarShard(digest), this.layout.root);
    const target = { path: this.layout.sidecar(digest), temporary: this.temporary(), durable: this.durable };
    this.#sidecars.delete(digest);
    await replaceWhole(this.files, target, encodeSidecar(sidecar)).finally(() => this.#written++);
    this.#cache(sidecar);
  }

  #cache(sidecar: Sidecar): Sidecar {
    if (sidecar.layer.length <= CACHED_LAYER_BYTES) this.#sidecars.set(sidecar.digest, sidecar);
    return sidecar;
  }

  /** Reads the whole blob. What is known of it is lost, so a durable store takes it for pushed and not written back. */
  async #rebuild(digest: Digest): Promise<Sidecar | undefined> {
    const path = this.layout.blob(digest);
    const file = await openExisting(this.files, path);
    if (file === undefined) return undefined;
    try {
      const digester = new Digester(digestAlgorithm(digest));
      const hasher = new PieceHasher();
      const sizeBytes = await file.sizeBytes();
      const buffer = Buffer.allocUnsafe(Math.min(PIECE_BYTES, sizeBytes));
      for (let at = 0; at < sizeBytes; at += buffer.length) {
        const bytes = buffer.subarray(0, await file.read(buffer, at));
        digester.update(bytes);
        hasher.update(bytes);
      }
      if (digester.digest() !== digest) {
        // Whoever brought it since wrote a sidecar before its bytes took this place: they are not what was read.
        if ((await this.#readSidecar(digest)) !== undefined) return undefined;
        this.log.warn({ digest }, 'blob without sidecar does not match its digest: dropped');
        await this.files.unlink(path);
        this.changes.removed(digest, sizeBytes);
        await this.changes.gone?.(digest);
        return undefined;
      }
      this.log.warn({ digest, sizeBytes }, 'blob without sidecar matches its digest: sidecar made again');
      const attrs: BlobAttrs = {
        class: this.durable ? 'pushed' : 'cached',
        provenance: [],
        writtenBack: false,
      };
      const sidecar = { digest, sizeBytes, layer: hasher.finish(), attrs };
      await this.#writeSidecar(sidecar);
      return sidecar;
    } finally {
      await file.close();
    }
  }
}
