import { KeyedLocks } from '@sepia/base/async/keyed-locks';
import { SingleFlight } from '@sepia/base/async/single-flight';
import { giveBack } from '@sepia/base/chunk';
import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { foldLeaves, PIECE_BYTES, pieceHash, pieceLeaves, pieceLength } from '@sepia/metainfo/tree';
import type { OpenFile } from './files/file-port.ts';
import type { LeafFile } from './rot/leaf-file.ts';
import type { BlobAttrs, Sidecar } from './sidecar.ts';

/** Pieces that are in memory at once in a process to make their leaf hashes; further ones wait. */
const MAX_MAKING = 4;
const making = new KeyedLocks<number>();
let nextLane = 0;

/** A blob that is being read; while it is open, the blob is not evicted. Close it. */
export class BlobHandle {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly attrs: BlobAttrs;
  readonly #metainfo: Metainfo;
  readonly #file: OpenFile;
  readonly #leafFile: LeafFile;
  readonly #making = new SingleFlight<number, Uint8Array>();
  readonly #onClose: () => void;
  #closing: Promise<void> | undefined;

  /** Made by `BlobStore.open`. */
  constructor(deps: { sidecar: Sidecar; file: OpenFile; leafFile: LeafFile; onClose: () => void }) {
    const { digest, sizeBytes, attrs, layer } = deps.sidecar;
    this.digest = digest;
    this.sizeBytes = sizeBytes;
    this.attrs = attrs;
    this.#metainfo = Metainfo.final(digest, sizeBytes, layer);
    this.#file = deps.file;
    this.#leafFile = deps.leafFile;
    this.#onClose = deps.onClose;
  }

  /** The blob's metainfo, `final`; shared, do not change it. */
  metainfo(): Metainfo {
    return this.#metainfo;
  }

  /**
   * Bytes as they are on disk, unchecked: from `offset` on, at most `into` holds, fewer at the end of the blob.
   * @throws `DISK_CORRUPT` with `detail.piece` when the file is too short
   */
  async read(offset: number, into: Uint8Array): Promise<Uint8Array> {
    const length = Math.max(0, Math.min(into.length, this.sizeBytes - offset));
    const target = into.subarray(0, length);
    const found = length === 0 ? 0 : await this.#file.read(target, offset);
    if (found !== length) throw this.#rotten(Math.floor((offset + found) / PIECE_BYTES));
    return target;
  }

  /**
   * Leaf hashes of a piece, which fold to its hash; made from the piece where none are kept.
   * @throws `DISK_CORRUPT` with `detail.piece` when they must be made and the piece is damaged
   */
  async leaves(index: number): Promise<Uint8Array> {
    const kept = await this.#leafFile.get(index, this.#hash(index));
    return kept ?? (await this.#make(index));
  }

  /** One whole piece, checked. `into` (1 MiB, or the blob's size if smaller) may be used for it. @throws `DISK_CORRUPT` with `detail.piece` */
  async readPieceVerified(index: number, into?: Uint8Array): Promise<Uint8Array> {
    const length = pieceLength(this.sizeBytes, index);
    this.#hash(index);
    const piece = await this.read(
      index * PIECE_BYTES,
      into?.subarray(0, length) ?? Buffer.allocUnsafeSlow(length),
    );
    if (!this.#metainfo.matches(index, pieceHash(piece))) throw this.#rotten(index);
    return piece;
  }

  /** The whole of a small blob, checked. @throws `DISK_CORRUPT` with `detail.piece` */
  async readAllVerified(): Promise<Buffer> {
    const bytes = Buffer.allocUnsafeSlow(this.sizeBytes);
    for (let index = 0; index < this.#metainfo.pieceCount; index++)
      await this.readPieceVerified(index, bytes.subarray(index * PIECE_BYTES));
    return bytes;
  }

  /** Idempotent. */
  close(): Promise<void> {
    if (this.#closing === undefined) {
      // It counts as open until its last leaf hashes are written: they belong to a blob that is there.
      this.#closing = this.#leafFile
        .close()
        .finally(this.#onClose)
        .then(() => this.#file.close());
    }
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #hash(index: number): Uint8Array {
    const hash = this.#metainfo.pieceHash(index);
    if (hash === undefined) throw new TypeError(`piece ${index}`);
    return hash;
  }

  async #make(index: number): Promise<Uint8Array> {
    return await this.#making.share(index, async () => {
      nextLane = (nextLane + 1) % MAX_MAKING;
      return await making.run(nextLane, async () => await this.#makeNow(index));
    });
  }

  async #makeNow(index: number): Promise<Uint8Array> {
    const piece = Buffer.allocUnsafeSlow(pieceLength(this.sizeBytes, index));
    const leaves = pieceLeaves(await this.read(index * PIECE_BYTES, piece));
    giveBack(piece);
    if (!this.#metainfo.matches(index, foldLeaves(leaves))) throw this.#rotten(index);
    await this.#leafFile.put(index, leaves);
    return leaves;
  }

  #rotten(piece: number): CodedError {
    return new CodedError('DISK_CORRUPT', {
      message: `piece ${piece} of ${this.digest} is damaged on disk`,
      detail: { digest: this.digest, piece },
    });
  }
}
