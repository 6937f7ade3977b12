import { type Digest, Digester, digestAlgorithm, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { allEnded, ended, throwIfBug } from '@sepia/base/failure';
import { PIECE_BYTES, PieceHasher } from '@sepia/metainfo/tree';
import type { Beside, BlobFiles } from './blob-files.ts';
import type { OpenFile } from './files/file-port.ts';
import { LEAFLESS_BYTES } from './rot/leaf-file.ts';
import type { BlobAttrs } from './sidecar.ts';

/** A finished upload that is no blob yet: what its stager copies to the owners. */
export interface SealedUpload {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Piece layer: 32 bytes a piece. */
  readonly layer: Uint8Array;
  /** Up to `length` bytes from `offset`; a fresh buffer. */
  read(offset: number, length: number): Promise<Uint8Array>;
  /** The bytes from `offset` on, in chunks of up to 256 KiB. */
  stream(offset?: number): AsyncGenerator<Uint8Array, void, void>;
}

const STREAM_BYTES = 256 * 1024;
/** Leaf hashes of so many pieces are written at once: 64 KiB. */
const LEAF_BLOCKS = 32;
/** An upload up to this size has no file until it is committed, while there is room in memory. */
const HELD_BYTES = LEAFLESS_BYTES;
/** Bytes that all uploads of a store hold in memory. */
const ALL_HELD_BYTES = 16 * 1024 * 1024;

/** Room for small uploads in memory, shared by those of a store. */
export class HeldRoom {
  #bytes = 0;

  /** False where there is none; else {@link give} it back. */
  take(bytes: number): boolean {
    if (this.#bytes + bytes > ALL_HELD_BYTES) return false;
    this.#bytes += bytes;
    return true;
  }

  give(bytes: number): void {
    this.#bytes -= bytes;
  }
}

/** The blob that an upload became. */
export interface CommittedUpload {
  readonly sizeBytes: number;
  /** As the store has them now. */
  readonly attrs: BlobAttrs;
  /** All of a small one, if it never was read from a file: the bytes that its digest was made of. */
  readonly bytes?: Uint8Array;
}

/**
 * An upload session's bytes: append-only, with the running SHA-256 and piece layer. A small one is in memory until it is
 * committed. `appending → sealed → committed`, and `dropped` from each of the first two.
 */
export class UploadFile {
  readonly id: string;
  readonly #deps: {
    readonly blobs: BlobFiles;
    readonly path: string;
    readonly room: HeldRoom;
    readonly onClosed: () => void;
  };
  /** Bytes that no file has. */
  #held: Buffer[] = [];
  #heldBytes = 0;
  #file: OpenFile | undefined;
  readonly #digester = new Digester();
  readonly #hasher = new PieceHasher((leaves) => this.#leaves.push(Buffer.from(leaves)));
  /** Leaf hashes that are not on disk yet, and how many bytes of them are. */
  #leaves: Buffer[] = [];
  #leavesFile: OpenFile | undefined;
  #leafBytes = 0;
  #offset = 0;
  #tail: Promise<void> = Promise.resolve();
  #sealing: Promise<Uint8Array> | undefined;
  #ended = false;
  /** A write failed in its middle: there may be bytes behind those that count. */
  #isTorn = false;
  #found: Digest | undefined;

  /** Made by `BlobStore.createUpload`. */
  constructor(id: string, deps: { blobs: BlobFiles; path: string; room: HeldRoom; onClosed: () => void }) {
    this.id = id;
    this.#deps = deps;
  }

  /** Bytes stored so far. */
  get offset(): number {
    return this.#offset;
  }

  /**
   * Appends after what was appended before. `bytes` must not change before it resolves. After a failure the upload
   * stands where it stood. @throws `DISK_FULL`, `UPLOAD_UNKNOWN` once it ended or is sealed
   */
  append(bytes: Uint8Array): Promise<void> {
    const done = this.#tail.then(async () => {
      if (this.#ended || this.#sealing !== undefined) throw this.#unknown();
      if (!this.#hold(bytes)) await this.#write(bytes);
      this.#digester.update(bytes);
      this.#hasher.update(bytes);
      this.#offset += bytes.length;
      if (this.#leaves.length >= LEAF_BLOCKS) await this.#keepLeaves();
    });
    this.#tail = ended(done);
    return done;
  }

  /**
   * Ends the bytes and checks them against `digest`; sha512 costs one re-read. Idempotent for one digest.
   * @throws `DIGEST_MISMATCH`: the upload can then only be dropped
   */
  async seal(digest: Digest): Promise<SealedUpload> {
    const layer = await this.#check(digest);
    return sealedUpload(digest, this.#offset, layer, await this.#onDisk());
  }

  /**
   * Seals, and renames the upload into place as a blob. `beside`: what is to be durable with it.
   * @throws `DIGEST_MISMATCH`, `DISK_FULL`, `UPLOAD_UNKNOWN`
   */
  async commit(digest: Digest, attrs: BlobAttrs, beside?: Beside): Promise<CommittedUpload> {
    const layer = await this.#check(digest);
    if (this.#ended) throw this.#unknown();
    this.#ended = true;
    const sizeBytes = this.#offset;
    const { blobs, path } = this.#deps;
    const blob = { digest, sizeBytes, layer, attrs, beside };
    try {
      if (this.#file === undefined) {
        const bytes = Buffer.concat(this.#held);
        const kept = await blobs.installBytes(blob, bytes);
        this.#letGo();
        this.#deps.onClosed();
        return { sizeBytes, attrs: kept, bytes };
      }
      const file = await this.#onDisk();
      const kept = await blobs.install({ ...blob, path, file, leavesPath: this.#leavesPath() });
      this.#deps.onClosed();
      await file.close();
      return { sizeBytes, attrs: kept };
    } catch (error) {
      this.#ended = false;
      throw error;
    }
  }

  /** Removes it. Idempotent; does nothing after a commit. */
  async drop(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    this.#deps.onClosed();
    await this.#tail;
    this.#letGo();
    if (this.#file === undefined) return;
    const { files } = this.#deps.blobs;
    // A disk that fails may take no name away; the files are closed all the same.
    await allEnded([
      ...[this.#file.close(), this.#leavesFile?.close()],
      ...[files.unlink(this.#deps.path), files.unlink(this.#leavesPath())],
    ]);
  }

  /** Keeps bytes in memory; false where they belong on the disk. */
  #hold(bytes: Uint8Array): boolean {
    if (this.#file !== undefined || this.#offset + bytes.length > HELD_BYTES) return false;
    if (!this.#deps.room.take(bytes.length)) return false;
    this.#held.push(Buffer.from(bytes));
    this.#heldBytes += bytes.length;
    return true;
  }

  async #write(bytes: Uint8Array): Promise<void> {
    const file = await this.#onDisk();
    await file.write(bytes, this.#offset).catch((error: unknown) => {
      this.#isTorn = true;
      throw error;
    });
  }

  /** Its file, with all that was held. */
  async #onDisk(): Promise<OpenFile> {
    this.#file ??= await this.#deps.blobs.files.open(this.#deps.path, 'create');
    if (this.#heldBytes === 0) return this.#file;
    await this.#file.write(Buffer.concat(this.#held), 0).catch((error: unknown) => {
      this.#isTorn = true;
      throw error;
    });
    this.#letGo();
    return this.#file;
  }

  #letGo(): void {
    this.#deps.room.give(this.#heldBytes);
    this.#held = [];
    this.#heldBytes = 0;
  }

  #leavesPath(): string {
    return `${this.#deps.path}.leaves`;
  }

  /** What the disk refuses is made again when the blob is read. */
  async #keepLeaves(): Promise<void> {
    const bytes = Buffer.concat(this.#leaves);
    this.#leaves = [];
    try {
      this.#leavesFile ??= await this.#deps.blobs.files.open(this.#leavesPath(), 'create');
      await this.#leavesFile.write(bytes, this.#leafBytes);
    } catch (error) {
      throwIfBug(error);
    }
    this.#leafBytes += bytes.length;
  }

  /** Ends the bytes; the piece layer. */
  async #check(digest: Digest): Promise<Uint8Array> {
    if (this.#ended) throw this.#unknown();
    this.#sealing ??= this.#tail.then(() => this.#seal(digest));
    const layer = await this.#sealing;
    if (this.#found === digest) return layer;
    throw new CodedError('DIGEST_MISMATCH', { detail: { expected: digest, found: this.#found } });
  }

  async #seal(digest: Digest): Promise<Uint8Array> {
    if (this.#isTorn) await (await this.#onDisk()).truncate(this.#offset);
    this.#found = digestAlgorithm(digest) === 'sha256' ? this.#digester.digest() : await this.#reread(digest);
    if (this.#found !== digest) {
      throw new CodedError('DIGEST_MISMATCH', { detail: { expected: digest, found: this.#found } });
    }
    if (this.#offset > LEAFLESS_BYTES) await this.#keepLeaves();
    await this.#leavesFile?.close();
    return this.#hasher.finish();
  }

  async #reread(digest: Digest): Promise<Digest> {
    if (this.#file === undefined) return digestOf(Buffer.concat(this.#held), digestAlgorithm(digest));
    const file = await this.#onDisk();
    const digester = new Digester(digestAlgorithm(digest));
    for await (const chunk of chunksOf(file, 0, this.#offset, PIECE_BYTES)) digester.update(chunk);
    return digester.digest();
  }

  #unknown(): CodedError {
    return new CodedError('UPLOAD_UNKNOWN', { detail: { id: this.id } });
  }
}

function sealedUpload(digest: Digest, sizeBytes: number, layer: Uint8Array, file: OpenFile): SealedUpload {
  return {
    digest,
    sizeBytes,
    layer,
    async read(offset, length) {
      const bytes = Buffer.allocUnsafe(Math.max(0, Math.min(length, sizeBytes - offset)));
      return bytes.subarray(0, await file.read(bytes, offset));
    },
    stream: (offset = 0) => chunksOf(file, offset, sizeBytes, STREAM_BYTES),
  };
}

async function* chunksOf(
  file: OpenFile,
  from: number,
  to: number,
  chunkBytes: number,
): AsyncGenerator<Uint8Array, void, void> {
  for (let at = from; at < to; ) {
    const chunk = Buffer.allocUnsafe(Math.min(chunkBytes, to - at));
    const found = await file.read(chunk, at);
    if (found !== chunk.length) throw new CodedError('DISK_CORRUPT', { detail: { at: at + found } });
    at += found;
    yield chunk;
  }
}
