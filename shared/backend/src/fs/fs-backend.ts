import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { MAX_TIMER_MS } from '@sepia/base/bounded-ms';
import { type Digest, Digester, digestAlgorithm, digestHex } from '@sepia/base/digest';
import { CodedError, isCoded, systemCode } from '@sepia/base/errors';
import { ignoreFailure, isBug, throwIfBug } from '@sepia/base/failure';
import { type FilePort, type OpenFile, openExisting } from '@sepia/store/files/file-port';
import { Folders } from '@sepia/store/folders';
import { digestOfName, Layout } from '@sepia/store/layout';
import type { BlobQuery, BlobWish, UpstreamBlob } from '@sepia/upstream/queries';
import { SlotGate } from '@sepia/upstream/slot-gate';
import { type BackendEntry, type BlobBackend, type BlobContent, chunksOf } from '../blob-backend.ts';
import { requireAlone, unknownBlob, wrongContent } from '../content-faults.ts';
import { inTime } from '../in-time.ts';
import { FileStream } from './file-stream.ts';

/** Says that the folder is a backend. Where it is missing, the file system is not mounted. */
const MARK = 'sepia-backend';
/** Files that name the clusters whose place it is. */
const MARKS = 'clusters';
/** Half-written blobs. */
const WRITING = 'writing';
const QUEUE_LIMIT = 1_000;
const ALGORITHMS = ['sha256', 'sha512'] as const;

interface FsBackendDeps {
  readonly files: FilePort;
}

export interface FsBackendOptions {
  /** The folder; must exist. */
  readonly path: string;
  /** Longest time that one call of the system may take, in ms. */
  readonly callMs: number;
  /** Calls of the system at once: each holds a thread, and on a mount that hangs for as long as that does. */
  readonly threads: number;
  /** False: a folder without the mark of a backend is none, even if it is empty: it was seen with the mark before. */
  readonly mayBegin: boolean;
}

/**
 * Blobs as files of a mounted file system: `PATH/blobs/<algo>/<ab>/<hex>`, written beside, synced, and renamed. It takes no
 * locks, so that any number of members may share it.
 */
export class FsBackend implements BlobBackend {
  readonly kind = 'fs';
  readonly place: string;
  readonly #files: FilePort;
  readonly #options: FsBackendOptions;
  readonly #layout: Layout;
  #folders: Folders;
  readonly #gate: SlotGate;
  /** Calls whose deadline has passed and that still hold a thread. */
  #hanging = 0;
  #isMarked = false;
  #mayBegin: boolean;

  constructor(deps: FsBackendDeps, options: FsBackendOptions) {
    this.place = options.path;
    this.#files = deps.files;
    this.#options = options;
    this.#mayBegin = options.mayBegin;
    this.#layout = new Layout(options.path);
    this.#folders = new Folders(deps.files, { durable: true });
    this.#gate = new SlotGate({ slots: options.threads, queueLimit: QUEUE_LIMIT, waitMs: MAX_TIMER_MS });
  }

  async headBlob({ digest }: BlobQuery, signal: AbortSignal): Promise<{ readonly sizeBytes: number }> {
    await this.#require(signal);
    const facts = await this.#call(() => this.#files.stat(this.#layout.blob(digest)), signal);
    if (facts === undefined) throw await this.#absent(digest, signal);
    return { sizeBytes: facts.sizeBytes };
  }

  async getBlob({ digest, range }: BlobWish, signal: AbortSignal): Promise<UpstreamBlob> {
    await this.#require(signal);
    const path = this.#layout.blob(digest);
    const file = await this.#open(() => openExisting(this.#files, path), signal);
    if (file === undefined) throw await this.#absent(digest, signal);
    try {
      const sizeBytes = await this.#call(() => file.sizeBytes(), signal);
      const start = range?.start ?? 0;
      const end = Math.min(sizeBytes, (range?.end ?? sizeBytes - 1) + 1);
      if (range !== undefined && start >= sizeBytes)
        throw new CodedError('RANGE_INVALID', { detail: { digest, start, sizeBytes } });
      const call = async <T>(work: () => Promise<T>): Promise<T> => await this.#call(work, signal);
      const letGo = (): void => this.#letGo(file);
      const body = new FileStream({ file, call, letGo, place: this.place, digest }, start, end);
      return { status: range === undefined ? 'whole' : 'partial', start, sizeBytes, body };
    } catch (error) {
      this.#letGo(file);
      throw error;
    }
  }

  async claim(owner: string, signal: AbortSignal): Promise<void> {
    this.#isMarked = false;
    await this.#require(signal, true);
    const folder = join(this.place, MARKS);
    let owners = await this.#call(() => this.#files.list(folder), signal);
    if (owners.length === 0) {
      await this.#call(() => this.#folders.ensure(folder, this.place), signal);
      await this.#mark(join(folder, owner), folder, signal);
      owners = await this.#call(() => this.#files.list(folder), signal);
    }
    requireAlone({ place: this.place, marks: `${MARKS}/` }, owners, owner);
  }

  async requireFree(owner: string, signal: AbortSignal): Promise<void> {
    this.#isMarked = false;
    await this.#require(signal);
    const owners = await this.#call(() => this.#files.list(join(this.place, MARKS)), signal);
    requireAlone({ place: this.place, marks: `${MARKS}/` }, owners, owner);
  }

  async putBlob(content: BlobContent, signal: AbortSignal, isWrong = false): Promise<'written' | 'there'> {
    const { digest, sizeBytes } = content;
    await this.#require(signal, true);
    const path = this.#layout.blob(digest);
    const found = await this.#call(() => this.#files.stat(path), signal);
    if (found?.sizeBytes === sizeBytes && !isWrong) {
      // Whoever renamed it may have been killed before the name was durable.
      await this.#call(() => this.#folders.sync(this.#layout.blobShard(digest)), signal);
      return 'there';
    }
    // Beside a mount that is gone nothing is written.
    this.#isMarked = false;
    await this.#require(signal, true);
    const writing = join(this.place, WRITING);
    await this.#call(() => this.#folders.ensure(writing, this.place), signal);
    const temporary = join(writing, `${digestHex(digest)}.${randomBytes(6).toString('hex')}`);
    try {
      const file = await this.#open(() => this.#files.open(temporary, 'create'), signal);
      try {
        await this.#write(file, content, signal);
      } catch (error) {
        this.#letGo(file);
        throw error;
      }
      await this.#call(() => file.close(), signal);
      const shard = this.#layout.blobShard(digest);
      await this.#call(() => this.#folders.ensure(shard, this.place), signal);
      await this.#call(() => this.#files.rename(temporary, path), signal);
      await this.#call(() => this.#folders.sync(shard), signal);
    } catch (error) {
      // A folder that was known may have gone.
      this.#folders = new Folders(this.#files, { durable: true });
      const late = AbortSignal.timeout(this.#options.callMs);
      await this.#call(() => this.#files.unlink(temporary), late).catch(ignoreFailure);
      throw error;
    }
    return 'written';
  }

  async deleteBlob({ digest }: Pick<BlobQuery, 'digest'>, signal: AbortSignal): Promise<void> {
    await this.#require(signal);
    await this.#call(() => this.#files.unlink(this.#layout.blob(digest)), signal);
  }

  async *listBlobs(after: Digest | undefined, signal: AbortSignal): AsyncGenerator<BackendEntry, void, void> {
    this.#isMarked = false;
    await this.#require(signal);
    for (const algorithm of ALGORITHMS) {
      const root = join(this.place, 'blobs', algorithm);
      for (const shard of (await this.#call(() => this.#files.list(root), signal)).sort()) {
        if (
          after !== undefined &&
          `${algorithm}:${shard}` < after.slice(0, algorithm.length + 1 + shard.length)
        )
          continue;
        const folder = join(root, shard);
        for (const name of (await this.#call(() => this.#files.list(folder), signal)).sort()) {
          const digest = digestOfName(algorithm, name);
          if (digest === undefined || (after !== undefined && digest <= after)) continue;
          const facts = await this.#call(() => this.#files.stat(join(folder, name)), signal);
          if (facts !== undefined) yield { digest, sizeBytes: facts.sizeBytes, writtenMs: facts.modifiedMs };
        }
      }
    }
  }

  async tidy(beforeMs: number, signal: AbortSignal): Promise<number> {
    await this.#require(signal);
    const folder = join(this.place, WRITING);
    let count = 0;
    for (const name of await this.#call(() => this.#files.list(folder), signal)) {
      const path = join(folder, name);
      const facts = await this.#call(() => this.#files.stat(path), signal);
      if (facts === undefined || facts.modifiedMs >= beforeMs) continue;
      await this.#call(() => this.#files.unlink(path), signal);
      count += 1;
    }
    return count;
  }

  async close(): Promise<void> {}

  async #write(file: OpenFile, content: BlobContent, signal: AbortSignal): Promise<void> {
    const { digest } = content;
    const digester = new Digester(digestAlgorithm(digest));
    let at = 0;
    for await (const chunk of chunksOf(content)) {
      digester.update(chunk);
      const offset = at;
      await this.#call(() => file.write(chunk, offset), signal);
      at += chunk.length;
    }
    const found = digester.digest();
    if (found !== digest) throw wrongContent(digest, found);
    await this.#call(() => file.sync(), signal);
  }

  /** "It is not there" counts while the file system is mounted. */
  async #absent(digest: Digest, signal: AbortSignal): Promise<CodedError> {
    this.#isMarked = false;
    await this.#require(signal);
    return unknownBlob(digest, this.place);
  }

  /**
   * The folder is a backend, and its file system is mounted; one that may begin is made one by who `writes`, and is empty
   * for who reads. @throws `BACKEND_DOWN`
   */
  async #require(signal: AbortSignal, writes = false): Promise<void> {
    if (this.#isMarked) return;
    const mark = join(this.place, MARK);
    if ((await this.#call(() => this.#files.stat(mark), signal)) === undefined) {
      const folder = await this.#call(() => this.#files.stat(this.place), signal);
      if (folder?.kind !== 'folder') throw this.#away('is no folder');
      if (!this.#mayBegin) throw this.#away(`has no file ${MARK} any more; is it mounted?`);
      if (!writes) return;
      await this.#mark(mark, this.place, signal);
    }
    this.#isMarked = true;
    this.#mayBegin = false;
  }

  /** An empty file in `folder`, durable. */
  async #mark(mark: string, folder: string, signal: AbortSignal): Promise<void> {
    const file = await this.#open(() => this.#files.open(mark, 'create'), signal).catch((error: unknown) => {
      if (systemCode(error) !== 'EEXIST') throw error;
    });
    if (file !== undefined) await this.#call(() => file.close(), signal);
    await this.#call(() => this.#files.syncFolder(folder), signal);
  }

  #away(why: string, cause?: unknown): CodedError {
    const { place } = this;
    return new CodedError('BACKEND_DOWN', {
      message: `backend folder ${place} ${why}`,
      detail: { place },
      cause,
    });
  }

  /** As {@link FsBackend.#call}; a file that opens when nobody waits for it any more is closed. */
  async #open<F extends OpenFile | undefined>(open: () => Promise<F>, signal: AbortSignal): Promise<F> {
    let opening: Promise<F> | undefined;
    try {
      return await this.#call(() => {
        opening = open();
        return opening;
      }, signal);
    } catch (error) {
      void opening
        ?.then((file) => {
          if (file !== undefined) this.#letGo(file);
        })
        .catch(ignoreFailure);
      throw error;
    }
  }

  /** Closes a file that nobody reads or writes any more, when a thread is free; nobody waits for it. */
  #letGo(file: OpenFile): void {
    const close = async (): Promise<void> => {
      const release = await this.#gate.acquire(new AbortController().signal);
      await file.close().finally(release);
    };
    void close().catch(ignoreFailure);
  }

  /** Leave to make one call of the system. @throws `BACKEND_DOWN` where all that may run hang */
  async #thread(signal: AbortSignal): Promise<() => void> {
    const { threads, callMs } = this.#options;
    const full = (): CodedError => this.#away(`does not answer: ${threads} calls of the system hang`);
    if (this.#gate.held < threads) return await this.#gate.acquire(signal);
    if (this.#hanging >= threads) throw full();
    try {
      return await this.#gate.acquire(AbortSignal.any([signal, AbortSignal.timeout(callMs)]));
    } catch (error) {
      signal.throwIfAborted();
      throwIfBug(error);
      throw full();
    }
  }

  /** One call of the system, with a deadline. @throws `BACKEND_DOWN` when it takes too long or the file system fails */
  async #call<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const release = await this.#thread(signal);
    const { callMs } = this.#options;
    let isLate = false;
    const running = work().finally(() => {
      release();
      if (isLate) this.#hanging -= 1;
    });
    try {
      return await inTime(running, callMs, signal, () => {
        isLate = true;
        this.#hanging += 1;
        return this.#away(`does not answer within ${callMs} ms`);
      });
    } catch (error) {
      signal.throwIfAborted();
      // What makes folders tells of the system in its own words.
      const told =
        isCoded(error, 'DISK_CORRUPT') || isCoded(error, 'DISK_FAILED') ? error.detail['system'] : undefined;
      const system = typeof told === 'string' ? told : systemCode(error);
      const isOther = error instanceof CodedError ? told === undefined : isBug(error);
      if (isOther || system === undefined || system === 'EEXIST') throw error;
      if (system === 'EACCES' || system === 'EPERM' || system === 'EROFS')
        throw new CodedError('UPSTREAM_DENIED', {
          message: `backend folder ${this.place} refuses access (${system}); ${system === 'EROFS' ? 'it is mounted read-only' : 'check its owner and rights'}`,
          detail: { place: this.place, system },
          cause: error,
        });
      throw this.#away(`fails (${system})`, error);
    }
  }
}
