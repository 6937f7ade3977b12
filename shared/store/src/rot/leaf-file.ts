import type { Digest } from '@sepia/base/digest';
import { systemCode } from '@sepia/base/errors';
import { ended, throwIfBug } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import type { Logger } from '@sepia/base/log';
import { foldLeaves, HASH_BYTES, LEAF_BYTES, LEAVES, leafCount, pieceLength } from '@sepia/metainfo/tree';
import { type FilePort, type OpenFile, openExisting } from '../files/file-port.ts';

/** Bytes of the leaf hashes of a whole piece. */
const BLOCK_BYTES = LEAVES * HASH_BYTES;
/** Pieces whose leaf hashes are read and kept together: 64 KiB of hashes, 32 MiB of blob. */
const CHUNK_PIECES = 32;
const CHUNK_BYTES = CHUNK_PIECES * BLOCK_BYTES;
/** Chunks kept in memory for all blobs of a store: 4 MiB. */
const MAX_CHUNKS = 64;

/** Chunks of one blob that hold hashes which are not written yet, at most: pieces come in any order. */
const MAX_UNWRITTEN = 2;
/** All pieces of a chunk, a bit each. */
const ALL = -1;

/** Blobs up to this size need no leaf file: one read of all of it makes the hashes. */
export const LEAFLESS_BYTES = 4 * LEAF_BYTES;

interface Chunk {
  readonly bytes: Buffer;
  /** One bit a piece whose hashes were found to fold to its piece hash. */
  good: number;
  /** True once what is on disk was read. */
  isLoaded: boolean;
}

interface Unwritten {
  readonly chunk: Chunk;
  /** One bit a piece whose hashes are to be written. */
  pieces: number;
}

/** Leaf hashes in memory, least recently used first out; shared by all leaf files of a store, each known by its path. */
export class LeafCache {
  readonly #chunks = new LatestMap<string, Chunk>(MAX_CHUNKS);

  take(path: string, number: number): Chunk {
    const key = `${path}/${number}`;
    const chunk = this.#chunks.get(key) ?? { bytes: Buffer.alloc(CHUNK_BYTES), good: 0, isLoaded: false };
    this.#chunks.set(key, chunk);
    return chunk;
  }

  /** Drops what is kept of a file that is gone. */
  forget(path: string): void {
    for (const key of this.#chunks.keys()) if (key.startsWith(`${path}/`)) this.#chunks.delete(key);
  }
}

interface LeafFileDeps {
  readonly files: FilePort;
  readonly cache: LeafCache;
  readonly log: Pick<Logger, 'debug'>;
  readonly path: string;
  /** Makes the folder of `path`. */
  readonly makeFolder?: () => Promise<void>;
}

/**
 * The leaf hashes of one blob: 2 KiB a piece, in order, nothing else. It needs no checksum and no sync: hashes count
 * only if they fold to the piece's hash, which the sidecar has, and all of them can be made again from the blob. So they
 * are written a chunk at once, or at the end.
 */
export class LeafFile {
  readonly #deps: LeafFileDeps;
  readonly #digest: Digest;
  readonly #sizeBytes: number;
  /** By number of chunk, oldest first. */
  readonly #unwritten = new Map<number, Unwritten>();
  #writing: Promise<OpenFile> | undefined;
  #closed = false;

  constructor(deps: LeafFileDeps, blob: { readonly digest: Digest; readonly sizeBytes: number }) {
    this.#deps = deps;
    this.#digest = blob.digest;
    this.#sizeBytes = blob.sizeBytes;
  }

  /** Leaf hashes that fold to `hash`; a copy. Undefined if there are none that do. */
  async get(piece: number, hash: Uint8Array): Promise<Uint8Array | undefined> {
    if (this.#sizeBytes <= LEAFLESS_BYTES) return undefined;
    const chunk = this.#chunk(Math.floor(piece / CHUNK_PIECES));
    const view = this.#view(chunk, piece);
    if (isGood(chunk, piece)) return view.slice();
    if (!chunk.isLoaded) await this.#load(chunk, piece);
    if (!isGood(chunk, piece) && Buffer.compare(foldLeaves(view), hash) !== 0) return undefined;
    markGood(chunk, piece);
    return view.slice();
  }

  /** Keeps the hashes of a verified piece; `leaves` are copied. What the disk refuses is made again when it is needed. */
  async put(piece: number, leaves: Uint8Array): Promise<void> {
    if (this.#sizeBytes <= LEAFLESS_BYTES) return;
    const number = Math.floor(piece / CHUNK_PIECES);
    const chunk = this.#chunk(number);
    this.#view(chunk, piece).set(leaves);
    markGood(chunk, piece);
    if (this.#closed) return;
    const unwritten = this.#unwritten.get(number) ?? { chunk, pieces: 0 };
    unwritten.pieces |= bitOf(piece);
    this.#unwritten.set(number, unwritten);
    if (unwritten.pieces === ALL) await this.#writeOut(number);
    else if (this.#unwritten.size > MAX_UNWRITTEN) {
      const [oldest] = this.#unwritten.keys();
      await this.#writeOut(oldest!);
    }
  }

  /** What waits is written, then nothing any more; hashes can still be read. Idempotent. */
  async close(): Promise<void> {
    for (const number of [...this.#unwritten.keys()]) await this.#writeOut(number);
    this.#closed = true;
    await this.#letGo();
  }

  /** Closes the file that is written; the next write opens it anew. */
  async #letGo(): Promise<void> {
    const writing = this.#writing;
    this.#writing = undefined;
    if (writing !== undefined) await ended(writing.then((file) => file.close()));
  }

  #chunk(number: number): Chunk {
    return this.#unwritten.get(number)?.chunk ?? this.#deps.cache.take(this.#deps.path, number);
  }

  /** Writes the hashes of a chunk that wait, those of pieces that follow each other at once. */
  async #writeOut(number: number): Promise<void> {
    const unwritten = this.#unwritten.get(number);
    if (unwritten === undefined) return;
    this.#unwritten.delete(number);
    const first = number * CHUNK_PIECES;
    for (let piece = first; piece < first + CHUNK_PIECES; piece++) {
      const begin = piece;
      while (piece < first + CHUNK_PIECES && (unwritten.pieces & bitOf(piece)) !== 0) piece += 1;
      if (piece === begin) continue;
      const last = this.#view(unwritten.chunk, piece - 1);
      const start = (begin - first) * BLOCK_BYTES;
      const end = last.byteOffset + last.length - unwritten.chunk.bytes.byteOffset;
      await this.#write(unwritten.chunk.bytes.subarray(start, end), begin * BLOCK_BYTES);
    }
  }

  async #write(bytes: Uint8Array, at: number): Promise<void> {
    const { files, path, makeFolder, log } = this.#deps;
    if (this.#closed) return;
    this.#writing ??= openForUpdate(files, path, makeFolder);
    const writing = this.#writing;
    try {
      await (await writing).write(bytes, at);
    } catch (error) {
      throwIfBug(error);
      if (this.#writing === writing) await this.#letGo();
      log.debug({ digest: this.#digest, reason: String(error) }, 'leaf hashes are not kept');
    }
  }

  /** Reads a chunk of the file; hashes that came meanwhile, or are known to be good, stay. */
  async #load(chunk: Chunk, piece: number): Promise<void> {
    const first = Math.floor(piece / CHUNK_PIECES) * CHUNK_PIECES;
    const bytes = await this.#read(first * BLOCK_BYTES);
    chunk.isLoaded = true;
    for (let one = first; (one - first) * BLOCK_BYTES < bytes.length; one++) {
      if (isGood(chunk, one)) continue;
      const at = (one - first) * BLOCK_BYTES;
      bytes.copy(chunk.bytes, at, at, at + BLOCK_BYTES);
    }
  }

  async #read(at: number): Promise<Buffer> {
    const { files, path } = this.#deps;
    let file: OpenFile | undefined;
    try {
      file = await openExisting(files, path);
      if (file === undefined) return Buffer.alloc(0);
      const bytes = Buffer.allocUnsafe(CHUNK_BYTES);
      return bytes.subarray(0, await file.read(bytes, at));
    } catch (error) {
      throwIfBug(error);
      return Buffer.alloc(0);
    } finally {
      await file?.close();
    }
  }

  #view(chunk: Chunk, piece: number): Buffer {
    const at = (piece % CHUNK_PIECES) * BLOCK_BYTES;
    return chunk.bytes.subarray(at, at + leafCount(pieceLength(this.#sizeBytes, piece)) * HASH_BYTES);
  }
}

/** Opens a file for writing that may be there. */
async function openForUpdate(
  files: FilePort,
  path: string,
  makeFolder: (() => Promise<void>) | undefined,
): Promise<OpenFile> {
  const known = await openExisting(files, path, 'update');
  if (known !== undefined) return known;
  await makeFolder?.();
  try {
    return await files.open(path, 'create');
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error;
    const now = await openExisting(files, path, 'update');
    if (now !== undefined) return now;
    // What lies there is no file.
    await files.unlink(path);
    return await files.open(path, 'create');
  }
}

function isGood(chunk: Chunk, piece: number): boolean {
  return (chunk.good & bitOf(piece)) !== 0;
}

function markGood(chunk: Chunk, piece: number): void {
  chunk.good |= bitOf(piece);
}

function bitOf(piece: number): number {
  return 1 << (piece % CHUNK_PIECES);
}
