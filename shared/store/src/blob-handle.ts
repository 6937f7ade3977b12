import type { Bitfield } from '@sepia/base/bitfield';
import { giveBack } from '@sepia/base/chunk';
import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceHash, pieceLength } from '@sepia/metainfo/tree';
import type { OpenFile } from './file-port.ts';
import type { BlobAttrs, Sidecar } from './sidecar.ts';

/** A blob that is being read; while it is open, the blob is not evicted. Close it. */
export class BlobHandle {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly attrs: BlobAttrs;
  readonly #metainfo: Metainfo;
  readonly #file: OpenFile;
  readonly #verified: Bitfield;
  readonly #checks = new Map<number, Promise<void>>();
  readonly #onClose: () => void;
  #closing: Promise<void> | undefined;

  /** Made by `BlobStore.open`. */
  constructor(deps: { sidecar: Sidecar; file: OpenFile; verified: Bitfield; onClose: () => void }) {
    const { digest, sizeBytes, attrs, layer } = deps.sidecar;
    this.digest = digest;
    this.sizeBytes = sizeBytes;
    this.attrs = attrs;
    this.#metainfo = Metainfo.final(digest, sizeBytes, layer);
    this.#file = deps.file;
    this.#verified = deps.verified;
    this.#onClose = deps.onClose;
  }

  /** The blob's metainfo, `final`; shared, do not change it. */
  metainfo(): Metainfo {
    return this.#metainfo;
  }

  /**
   * Bytes from `offset` on, at most `into` holds or `into` bytes (then a fresh buffer), fewer at the end of the blob.
   * Each piece is verified at its first read since the start of the process.
   * @throws `DISK_CORRUPT` with `detail.piece` when a piece rotted
   */
  async read(offset: number, into: Uint8Array | number): Promise<Uint8Array> {
    const room = typeof into === 'number' ? into : into.length;
    const length = Math.max(0, Math.min(room, this.sizeBytes - offset));
    const target = typeof into === 'number' ? Buffer.allocUnsafe(length) : into.subarray(0, length);
    if (length === 0) return target;
    const last = Math.floor((offset + length - 1) / PIECE_BYTES);
    if (
      offset === last * PIECE_BYTES &&
      length === pieceLength(this.sizeBytes, last) &&
      !this.#verified.has(last)
    ) {
      await this.#readAndCheck(last, target);
      return target;
    }
    for (let piece = Math.floor(offset / PIECE_BYTES); piece <= last; piece++) {
      if (!this.#verified.has(piece)) await this.#check(piece);
    }
    if ((await this.#file.read(target, offset)) !== length) throw this.#rotten(last);
    return target;
  }

  /** One whole piece, verified at its first read since the start. @throws `DISK_CORRUPT` with `detail.piece` */
  async readPieceVerified(index: number): Promise<Uint8Array> {
    if (!Number.isInteger(index) || index < 0 || index >= this.#metainfo.pieceCount)
      throw new TypeError(`piece ${index}`);
    if (this.#verified.has(index)) return this.read(index * PIECE_BYTES, pieceLength(this.sizeBytes, index));
    return this.#readAndCheck(index);
  }

  /** Idempotent. */
  close(): Promise<void> {
    if (this.#closing === undefined) {
      this.#onClose();
      this.#closing = this.#file.close();
    }
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #check(index: number): Promise<void> {
    let running = this.#checks.get(index);
    if (running === undefined) {
      running = this.#readAndCheck(index).then(
        (piece) => {
          this.#checks.delete(index);
          giveBack(piece);
        },
        (error: unknown) => {
          this.#checks.delete(index);
          throw error;
        },
      );
      this.#checks.set(index, running);
    }
    return running;
  }

  async #readAndCheck(index: number, into?: Uint8Array): Promise<Uint8Array> {
    const piece = into ?? Buffer.allocUnsafeSlow(pieceLength(this.sizeBytes, index));
    const found = await this.#file.read(piece, index * PIECE_BYTES);
    if (found !== piece.length || !this.#metainfo.matches(index, pieceHash(piece))) throw this.#rotten(index);
    this.#verified.add(index);
    return piece;
  }

  #rotten(piece: number): CodedError {
    return new CodedError('DISK_CORRUPT', {
      message: `piece ${piece} of ${this.digest} is damaged on disk`,
      detail: { digest: this.digest, piece },
    });
  }
}
