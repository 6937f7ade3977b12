import { randomBytes } from 'node:crypto';
import { KeyedLocks } from '@sepia/base/async/keyed-locks';
import { Bitfield } from '@sepia/base/bitfield';
import { giveBack } from '@sepia/base/chunk';
import { type Digest, Digester, digestAlgorithm } from '@sepia/base/digest';
import { CodedError, takesNoWrites } from '@sepia/base/errors';
import { ended, ignoreFailure } from '@sepia/base/failure';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import { foldLeaves, PIECE_BYTES, pieceLeaves, pieceLength } from '@sepia/metainfo/tree';
import type { BlobFiles } from './blob-files.ts';
import { DelayedWrite } from './files/delayed-write.ts';
import { type OpenFile, replaceWhole } from './files/file-port.ts';
import { HeldPieces } from './held-pieces.ts';
import { encodePieceMap, type PieceMap, partialDataName } from './piece-map.ts';
import { LeafFile } from './rot/leaf-file.ts';
import type { BlobAttrs } from './sidecar.ts';

/** What a partial is made from: a fresh one, or one found on disk. */
export type PartialStart = Pick<PieceMap, 'metainfo' | 'have' | 'dataName' | 'sources'> & {
  readonly file: OpenFile;
};

interface PartialDeps {
  readonly blobs: BlobFiles;
  readonly bootId: string;
  readonly mapDelayMs: number;
  /** Called once, when the last user let go. */
  readonly onClosed: () => void;
}

/**
 * A blob in the making, shared by all who asked for its digest; each calls `release` once.
 * The whole digest advances with the gapless prefix: from memory when the next piece is written, else read back.
 */
export class PartialBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly #deps: PartialDeps;
  #closing: Promise<void> | undefined;
  #metainfo: Metainfo;
  #have: Bitfield;
  readonly #held = new HeldPieces();
  #dataName: string;
  #sources: readonly string[];
  #file: OpenFile;
  readonly #replaced: OpenFile[] = [];
  #leafFile: LeafFile;
  #attempts = 0;
  #state: PartialBlob['state'] = 'open';
  #refs = 1;
  #prefix: Digester;
  #prefixNext = 0;
  #found: Digest | undefined;
  #tree: 'unproven' | 'proven' | 'contested' = 'unproven';
  #scratch: Uint8Array | undefined;
  #advancing: Promise<void> | undefined;
  #committing: Promise<void> | undefined;
  /** Commits, new attempts and the end: what one has verified is not another's to take away. */
  readonly #turns = new KeyedLocks<'all'>();
  readonly #map: DelayedWrite;

  constructor(deps: PartialDeps, start: PartialStart) {
    this.#deps = deps;
    this.digest = start.metainfo.digest;
    this.sizeBytes = start.metainfo.sizeBytes;
    this.#metainfo = start.metainfo;
    this.#have = start.have;
    this.#dataName = start.dataName;
    this.#sources = start.sources;
    this.#file = start.file;
    this.#leafFile = this.#newLeafFile();
    this.#prefix = new Digester(digestAlgorithm(this.digest));
    this.#map = new DelayedWrite({
      delayMs: deps.mapDelayMs,
      write: async (synced) => await this.#writeMap(synced),
      ...{ failed: 'piece map not written', facts: { digest: this.digest }, log: deps.blobs.log },
    });
  }

  /** Add hashes to it, then write their pieces. Replaced as a whole by {@link replaceMetainfo}. */
  get metainfo(): Metainfo {
    return this.#metainfo;
  }

  /** Pieces on disk; only read it. */
  get have(): Bitfield {
    return this.#have;
  }

  /** True if a piece can be read: it is on disk, or in memory on its way there; what then cannot be written can be read no longer. */
  isReadable(index: number): boolean {
    return this.#have.has(index) || this.#held.has(index);
  }

  /** Calls `listener` when a piece {@link isReadable can be read}, until what is returned is called. It must not throw. */
  onReadable(listener: (index: number) => void): () => void {
    return this.#held.listen(listener);
  }

  /** `open → committed` or `open → dropped`; after both, pieces read as long as somebody holds it. */
  get state(): 'open' | 'committed' | 'dropped' {
    return this.#state;
  }

  /** True if its pieces are bytes of that upstream. */
  isOf(source: string): boolean {
    return this.#sources.includes(source);
  }

  /** How many bytes from 0 on went into the whole digest. */
  get prefixBytes(): number {
    return Math.min(this.#prefixNext * PIECE_BYTES, this.sizeBytes);
  }

  /** The cluster vouches for its tree: the whole digest is not hashed here, until taken back or a new attempt; not after words that differ. */
  trustTree(isProven = true): void {
    if (this.#tree !== 'contested')
      this.#tree = isProven && this.#metainfo.state === 'final' ? 'proven' : 'unproven';
  }

  /** Counts one more user, who calls {@link release} when done. */
  retain(): this {
    this.#refs += 1;
    return this;
  }

  /**
   * Stores a piece that the caller has verified against `metainfo`, with its leaf hashes if the caller made them.
   * `bytes` must not change before it resolves: until then it is read from there. A piece that is there is left alone.
   * @throws `DISK_FULL`, `STALE_ATTEMPT` if the attempt was replaced meanwhile
   */
  async writePiece(index: number, bytes: Uint8Array, leaves?: Uint8Array): Promise<void> {
    if (this.#state !== 'open') throw this.#stale();
    if (!this.#metainfo.knows(index)) throw this.#misused(`piece ${index} has no known hash`);
    if (bytes.length !== pieceLength(this.sizeBytes, index))
      throw new TypeError(`piece ${index} of ${bytes.length} bytes`);
    if (this.#have.has(index)) return;
    const [attempt, leafFile] = [this.#attempts, this.#leafFile];
    const written = Promise.all([
      this.#file.write(bytes, index * PIECE_BYTES),
      leaves === undefined ? undefined : leafFile.put(index, leaves),
    ]);
    await this.#held.during(index, bytes, leaves, written);
    if (attempt !== this.#attempts || this.state === 'dropped') throw this.#stale();
    if (!this.#have.add(index)) return;
    this.#mapChanged();
    if (this.#tree === 'proven') return;
    if (index === this.#prefixNext && this.#advancing === undefined) this.#hashNext(bytes);
    if (this.#have.has(this.#prefixNext)) this.#advance().catch(ignoreFailure);
  }

  /** `length` bytes of piece `index` from `offset` (within the piece), read into `into` or a fresh buffer. @throws `STALE_ATTEMPT` */
  async readPiece(
    index: number,
    offset = 0,
    length = pieceLength(this.sizeBytes, index) - offset,
    into?: Uint8Array,
  ): Promise<Uint8Array> {
    if (!this.isReadable(index)) throw this.#misused(`piece ${index} is not there`);
    if (offset < 0 || length < 0 || offset + length > pieceLength(this.sizeBytes, index))
      throw new TypeError('range outside the piece');
    const attempt = this.#attempts;
    const bytes = into === undefined ? Buffer.allocUnsafe(length) : into.subarray(0, length);
    if (this.#held.copy(index, offset, bytes)) return bytes;
    const found = await this.#file.read(bytes, index * PIECE_BYTES + offset);
    if (attempt !== this.#attempts) throw this.#stale();
    if (found !== length)
      throw new CodedError('DISK_CORRUPT', { detail: { digest: this.digest, piece: index } });
    return bytes;
  }

  /** Bytes of one piece from `offset` (in the blob) on, as they are on disk: unchecked. @throws `STALE_ATTEMPT`, `DISK_CORRUPT` */
  async read(offset: number, into: Uint8Array): Promise<void> {
    await this.readPiece(Math.floor(offset / PIECE_BYTES), offset % PIECE_BYTES, into.length, into);
  }

  /**
   * Leaf hashes of a piece that can be read, which fold to its hash; made from the piece where none are kept.
   * @throws `DISK_CORRUPT` with `detail.piece` when they must be made and the piece is damaged, `STALE_ATTEMPT`
   */
  async leaves(index: number): Promise<Uint8Array> {
    const hash = this.#metainfo.pieceHash(index);
    if (hash === undefined) throw new TypeError(`piece ${index} has no known hash`);
    const leafFile = this.#leafFile;
    const kept = this.#held.leaves(index) ?? (await leafFile.get(index, hash));
    if (kept !== undefined) return kept;
    const piece = await this.readPiece(index);
    const leaves = pieceLeaves(piece);
    giveBack(piece);
    if (Buffer.compare(foldLeaves(leaves), hash) !== 0)
      throw new CodedError('DISK_CORRUPT', { detail: { digest: this.digest, piece: index } });
    await leafFile.put(index, leaves);
    return leaves;
  }

  /** Writes a verified piece over a copy that is damaged on disk. @throws `STALE_ATTEMPT`, `DISK_FULL` */
  async mendPiece(index: number, bytes: Uint8Array): Promise<void> {
    const attempt = this.#attempts;
    await this.#file.write(bytes, index * PIECE_BYTES);
    if (attempt !== this.#attempts) throw this.#stale();
  }

  /** True if all pieces are there and the whole digest matches, or its tree is trusted. */
  async verifyWhole(): Promise<boolean> {
    if (!this.#have.complete) return false;
    if (this.#tree === 'proven') return true;
    const attempt = this.#attempts;
    while (attempt === this.#attempts && this.#prefixNext < this.#metainfo.pieceCount) await this.#advance();
    if (attempt !== this.#attempts) return false;
    this.#found ??= this.#prefix.digest();
    return this.#found === this.digest;
  }

  /**
   * Verifies the whole digest and makes this a blob; users who joined may all call it. Pieces still read afterwards.
   * @throws `DIGEST_MISMATCH` (the partial stays: drop it or replace its metainfo), `DISK_FULL`, `STALE_ATTEMPT`
   */
  commit(attrs: BlobAttrs): Promise<void> {
    const attempt = this.#attempts;
    const run = async (): Promise<void> => await this.#commit(attrs, attempt);
    this.#committing ??= this.#turns.run('all', run).catch((error: unknown) => {
      this.#committing = undefined;
      throw error;
    });
    return this.#committing;
  }

  /** Takes over what a newer answer says; a contradiction or a new attempt replaces all. See `Metainfo.merge`. */
  async learn(other: Metainfo): Promise<'merged' | 'replaced'> {
    const outcome = this.#metainfo.merge(other);
    if (outcome === 'contested') this.#tree = 'contested';
    if (outcome !== 'merged') await this.replaceMetainfo(other);
    else this.#mapChanged();
    return outcome === 'merged' ? outcome : 'replaced';
  }

  /**
   * Starts over with another attempt: every piece is dropped. `metainfo` is owned by this partial from now on.
   * `source`: the upstream that its pieces come from then, if it is another.
   */
  async replaceMetainfo(metainfo: Metainfo, source?: string): Promise<void> {
    if (metainfo.digest !== this.digest || metainfo.sizeBytes !== this.sizeBytes)
      throw new TypeError('metainfo of another blob');
    await this.#turns.run('all', async () => await this.#replace(metainfo, source));
  }

  async #replace(metainfo: Metainfo, source: string | undefined): Promise<void> {
    if (this.#state !== 'open') throw this.#stale();
    const { files, layout } = this.#deps.blobs;
    const dataName = partialDataName(this.digest, randomBytes(4).toString('hex'));
    const file = await files.open(layout.partialData(dataName), 'create');
    const old = layout.partialData(this.#dataName);
    this.#attempts += 1;
    this.#replaced.push(this.#file);
    const [oldLeaves, oldLeavesPath] = [this.#leafFile, layout.partialLeaves(this.#dataName)];
    this.#file = file;
    this.#dataName = dataName;
    this.#deps.blobs.leafCache.forget(oldLeavesPath);
    this.#leafFile = this.#newLeafFile();
    if (source !== undefined) this.#sources = [source];
    this.#metainfo = metainfo;
    this.#have = new Bitfield(metainfo.pieceCount);
    this.#held.clear();
    this.#prefix = new Digester(digestAlgorithm(this.digest));
    this.#prefixNext = 0;
    this.trustTree(false);
    this.#found = undefined;
    this.#mapChanged();
    await oldLeaves.close();
    for (const path of [oldLeavesPath, old]) await files.unlink(path);
  }

  /** Removes it from disk. Other users get `STALE_ATTEMPT` when they write. Idempotent. */
  async drop(): Promise<void> {
    await this.#turns.run('all', async () => {
      if (this.#state !== 'open') return;
      this.#state = 'dropped';
      await this.#map.stop();
      const { files, layout } = this.#deps.blobs;
      await files.unlink(layout.pieceMap(this.digest));
      await this.#leafFile.close();
      await files.unlink(layout.partialLeaves(this.#dataName));
      await files.unlink(layout.partialData(this.#dataName));
    });
  }

  /** The caller is done with it. The last one out writes the piece map and closes the file. */
  async release(): Promise<void> {
    this.#refs -= 1;
    if (this.#refs > 0) return;
    if (this.#refs < 0) throw new TypeError('partial released too often');
    this.#closing ??= this.#close(false);
    await this.#closing;
  }

  /** Set once it is being closed: wait for it, then open anew. */
  get closing(): Promise<void> | undefined {
    return this.#closing;
  }

  /** Closes it for everybody at a clean stop: bytes and piece map are synced, so that they are believed later. */
  closeSynced(): Promise<void> {
    this.#closing ??= this.#close(true);
    return this.#closing;
  }

  async #close(synced: boolean): Promise<void> {
    this.#map.cancel();
    await this.#turns.idle('all');
    await ended(this.#advancing);
    try {
      if (synced && this.#state === 'open') await this.#file.sync();
      await this.#map.write(synced);
    } catch (error) {
      // Without map its bytes would never be used, and they are the room that is lacking.
      if (!takesNoWrites(error)) throw error;
      await this.drop();
    } finally {
      // Who opens it anew waits for this, and finds all leaf hashes.
      await this.#leafFile.close().finally(this.#deps.onClosed);
      for (const file of [this.#file, ...this.#replaced]) await file.close();
    }
  }

  async #commit(attrs: BlobAttrs, attempt: number): Promise<void> {
    const { digest, sizeBytes } = this;
    if (this.#state !== 'open' || attempt !== this.#attempts) throw this.#stale();
    const isWhole = await this.verifyWhole();
    const detail = { expected: digest, found: this.#found ?? 'incomplete' };
    if (!isWhole) throw new CodedError('DIGEST_MISMATCH', { detail });
    await this.#map.stop();
    this.#metainfo.finalize();
    const { blobs } = this.#deps;
    const path = blobs.layout.partialData(this.#dataName);
    const layer = this.#metainfo.layer();
    await this.#leafFile.close();
    const leavesPath = blobs.layout.partialLeaves(this.#dataName);
    await blobs.install({ digest, sizeBytes, layer, attrs, path, file: this.#file, leavesPath });
    this.#leafFile = blobs.leafFile(digest, sizeBytes);
    this.#state = 'committed';
    this.#scratch = undefined;
    await blobs.files.unlink(blobs.layout.pieceMap(digest));
  }

  #newLeafFile(): LeafFile {
    const { files, leafCache: cache, log, layout } = this.#deps.blobs;
    return new LeafFile({ files, cache, log, path: layout.partialLeaves(this.#dataName) }, this);
  }

  #hashNext(bytes: Uint8Array): void {
    this.#prefix.update(bytes);
    this.#prefixNext += 1;
  }

  #advance(): Promise<void> {
    if (this.#advancing === undefined) {
      const running = this.#readBack();
      this.#advancing = running;
      const done = (): void => {
        if (this.#advancing === running) this.#advancing = undefined;
      };
      running.then(done, done);
    }
    return this.#advancing;
  }

  async #readBack(): Promise<void> {
    const attempt = this.#attempts;
    this.#scratch ??= Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, this.sizeBytes));
    while (this.#have.has(this.#prefixNext)) {
      const next = this.#prefixNext;
      const bytes = await this.readPiece(next, 0, pieceLength(this.sizeBytes, next), this.#scratch);
      if (attempt !== this.#attempts) return;
      this.#hashNext(bytes);
    }
  }

  #mapChanged(): void {
    if (this.#state === 'open') this.#map.changed();
  }

  async #writeMap(synced: boolean): Promise<void> {
    if (this.#state !== 'open') return;
    const { blobs, bootId } = this.#deps;
    const { files, layout } = blobs;
    const [metainfo, have, dataName, sources] = [this.#metainfo, this.#have, this.#dataName, this.#sources];
    const map = { metainfo, have, dataName, bootId, synced, sources };
    const target = { path: layout.pieceMap(this.digest), temporary: blobs.temporary(), durable: synced };
    await replaceWhole(files, target, encodePieceMap(map));
    if (synced) await files.syncFolder(layout.partials);
  }

  #misused(message: string): Error {
    return this.#attempts > 0 ? this.#stale() : new TypeError(message);
  }

  #stale(): CodedError {
    return new CodedError('STALE_ATTEMPT', { detail: { digest: this.digest, state: this.#state } });
  }
}
