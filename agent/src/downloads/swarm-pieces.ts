import { Bitfield } from '@sepia/base/bitfield';
import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { ignoreFailure } from '@sepia/base/failure';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import type { BlobHandle } from '@sepia/store/blob-handle';
import type { BlobStore } from '@sepia/store/blob-store';
import type { PartialBlob } from '@sepia/store/partial-blob';
import type { PieceStore } from '@sepia/swarm/swarm';
import { IDLE_CLOSE_MS } from '../deadlines.ts';

/** Pieces that a swarm reads and writes: of a partial while it downloads, of the stored blob afterwards. */
export class SwarmPieces implements PieceStore {
  readonly #store: BlobStore;
  readonly #digest: Digest;
  #partial: PartialBlob | undefined;
  readonly #whole: Bitfield;
  readonly #onFailure: (error: unknown) => void;
  readonly #onComplaint: (index: number) => void;
  #handle: Promise<BlobHandle | undefined> | undefined;
  #idle: NodeJS.Timeout | undefined;
  #reading = 0;

  private constructor(
    store: BlobStore,
    digest: Digest,
    partial: PartialBlob | undefined,
    whole: Bitfield,
    onComplaint: (index: number) => void,
    onFailure: (error: unknown) => void = () => undefined,
  ) {
    this.#store = store;
    this.#digest = digest;
    this.#partial = partial;
    this.#whole = whole;
    this.#onFailure = onFailure;
    this.#onComplaint = onComplaint;
  }

  /** `onFailure`: a piece could not be written; the swarm would try it again and again. */
  static ofPartial(
    store: BlobStore,
    partial: PartialBlob,
    onComplaint: (index: number) => void,
    onFailure: (error: unknown) => void,
  ): SwarmPieces {
    const whole = Bitfield.full(partial.metainfo.pieceCount);
    return new SwarmPieces(store, partial.digest, partial, whole, onComplaint, onFailure);
  }

  static ofBlob(
    store: BlobStore,
    { digest, pieceCount }: Pick<Metainfo, 'digest' | 'pieceCount'>,
    onComplaint: (index: number) => void,
  ): SwarmPieces {
    return new SwarmPieces(store, digest, undefined, Bitfield.full(pieceCount), onComplaint);
  }

  get have(): Bitfield {
    return this.#partial?.have ?? this.#whole;
  }

  /** The partial became a blob: from now on its file is opened when needed. */
  stored(): void {
    this.#partial = undefined;
  }

  async readPiece(index: number, offset: number, length: number, into: Uint8Array): Promise<Uint8Array> {
    if (this.#partial !== undefined) return await this.#partial.readPiece(index, offset, length, into);
    this.#reading += 1;
    clearTimeout(this.#idle);
    try {
      const handle = await this.#opened();
      if (handle === undefined) throw new CodedError('BLOB_UNKNOWN', { detail: { digest: this.#digest } });
      return await handle.read(index * PIECE_BYTES + offset, into);
    } finally {
      this.#reading -= 1;
      if (this.#reading === 0) this.#closeWhenIdle();
    }
  }

  async writePiece(index: number, bytes: Uint8Array, leaves?: Uint8Array): Promise<void> {
    if (this.#partial === undefined) throw new TypeError('piece written to a whole blob');
    try {
      await this.#partial.writePiece(index, bytes, leaves);
    } catch (error) {
      this.#onFailure(error);
      throw error;
    }
  }

  /** A partial is not looked at: its file is read through when it becomes a blob, or each leaf when it is read. */
  complained(index: number): void {
    if (this.#partial === undefined) this.#onComplaint(index);
  }

  close(): void {
    clearTimeout(this.#idle);
    const handle = this.#handle;
    this.#handle = undefined;
    handle?.then((open) => open?.close()).catch(ignoreFailure);
  }

  /** One that could not be opened, for want of a descriptor say, is tried again with the next read. */
  async #opened(): Promise<BlobHandle | undefined> {
    this.#handle ??= this.#store.open(this.#digest);
    const opening = this.#handle;
    try {
      return await opening;
    } catch (error) {
      if (this.#handle === opening) this.#handle = undefined;
      throw error;
    }
  }

  #closeWhenIdle(): void {
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => this.close(), IDLE_CLOSE_MS);
    this.#idle.unref();
  }
}
