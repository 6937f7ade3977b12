import { type Digest, Digester, digestAlgorithm } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { ended, throwIfBug } from '@sepia/base/failure';
import { PIECE_BYTES, PieceHasher } from '@sepia/metainfo/tree';
import type { BlobFiles } from './blob-files.ts';
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

/**
 * An upload session's bytes: append-only, with the running SHA-256 and piece layer.
 * `appending → sealed → committed`, and `dropped` from each of the first two.
 */
export class UploadFile {
  readonly id: string;
  readonly #deps: {
    readonly blobs: BlobFiles;
    readonly path: string;
    readonly file: OpenFile;
    readonly onClosed: () => void;
  };
  readonly #digester = new Digester();
  readonly #hasher = new PieceHasher((leaves) => this.#leaves.push(Buffer.from(leaves)));
  /** Leaf hashes that are not on disk yet, and how many bytes of them are. */
  #leaves: Buffer[] = [];
  #leavesFile: OpenFile | undefined;
  #leafBytes = 0;
  #offset = 0;
  #tail: Promise<void> = Promise.resolve();
  #sealing: Promise<SealedUpload> | undefined;
  #sealed: SealedUpload | undefined;
  #ended = false;
  /** A write failed in its middle: there may be bytes behind those that count. */
  #isTorn = false;
  #found: Digest | undefined;

  /** Made by `BlobStore.createUpload`. */
  constructor(id: string, deps: { blobs: BlobFiles; path: string; file: OpenFile; onClosed: () => void }) {
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
      await this.#deps.file.write(bytes, this.#offset).catch((error: unknown) => {
        this.#isTorn = true;
        throw error;
      });
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
    if (this.#ended) throw this.#unknown();
    this.#sealing ??= this.#tail.then(() => this.#seal(digest));
    const sealed = await this.#sealing;
    if (sealed.digest === digest) return sealed;
    throw new CodedError('DIGEST_MISMATCH', { detail: { expected: digest, found: sealed.digest } });
  }

  /** Seals, and renames the upload into place as a blob. @throws `DIGEST_MISMATCH`, `DISK_FULL`, `UPLOAD_UNKNOWN` */
  async commit(digest: Digest, attrs: BlobAttrs): Promise<{ sizeBytes: number }> {
    const { sizeBytes, layer } = await this.seal(digest);
    if (this.#ended) throw this.#unknown();
    this.#ended = true;
    const { blobs, path, file } = this.#deps;
    try {
      const leavesPath = this.#leavesPath();
      await blobs.install({ digest, sizeBytes, layer, attrs, path, file, leavesPath });
    } catch (error) {
      this.#ended = false;
      throw error;
    }
    this.#deps.onClosed();
    await file.close();
    return { sizeBytes };
  }

  /** Removes it. Idempotent; does nothing after a commit. */
  async drop(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    this.#deps.onClosed();
    await this.#tail;
    await this.#deps.blobs.files.unlink(this.#deps.path);
    await this.#leavesFile?.close();
    await this.#deps.blobs.files.unlink(this.#leavesPath());
    await this.#deps.file.close();
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

  async #seal(digest: Digest): Promise<SealedUpload> {
    if (this.#sealed !== undefined) return this.#sealed;
    const { file } = this.#deps;
    if (this.#isTorn) await file.truncate(this.#offset);
    this.#found = digestAlgorithm(digest) === 'sha256' ? this.#digester.digest() : await this.#reread(digest);
    if (this.#found !== digest) {
      throw new CodedError('DIGEST_MISMATCH', { detail: { expected: digest, found: this.#found } });
    }
    const layer = this.#hasher.finish();
    if (this.#offset > LEAFLESS_BYTES) await this.#keepLeaves();
    await this.#leavesFile?.close();
    this.#sealed = sealedUpload(digest, this.#offset, layer, file);
    return this.#sealed;
  }

  async #reread(digest: Digest): Promise<Digest> {
    const digester = new Digester(digestAlgorithm(digest));
    for await (const chunk of chunksOf(this.#deps.file, 0, this.#offset, PIECE_BYTES)) digester.update(chunk);
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
