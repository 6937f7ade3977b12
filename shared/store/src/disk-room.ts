import { statfs } from 'node:fs/promises';
import { CodedError, isCoded, takesNoWrites } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { FULL_MS, ROOM_LOOK_MS, SHORT_LOG_MS, UNUSED_ROOM_LOOK_MS } from './deadlines.ts';
import type { FilePort, OpenFile } from './files/file-port.ts';

/** Bytes that blobs leave free, so that records, manifests and piece maps can still be written. */
const RESERVE_BYTES = 64 * 1024 * 1024;
/** Writes up to this size may use the reserve. */
const SMALL_BYTES = 64 * 1024;
/** Files that blobs leave to records and manifests, each of which takes some for a moment. */
const RESERVE_INODES = 64;
const REMEDY = 'make room, or give it a larger disk';
const NO_INODES = 'has no inodes left, however many bytes are free';
const INODE_REMEDY = 'remove files, or give it a file system with more';
const QUOTA = 'has no room left within a quota, however many bytes are free';
const QUOTA_REMEDY = 'raise it, or make room';

/** Free bytes of the disk that a folder lies on. */
export type FreeBytes = () => Promise<number>;

/** Files that the disk of a folder may still take; infinitely many where it does not say. */
type FreeInodes = () => Promise<number>;

interface DiskRoomDeps {
  readonly selfId: string;
  readonly dir: string;
  readonly log: Logger;
  readonly nowMs: () => number;
  /** Default: asks the system. */
  readonly freeBytes?: FreeBytes | undefined;
  /** Default: asks the system, as for bytes. */
  readonly freeInodes?: FreeInodes;
}

/**
 * Room on the disk of this origin: looked at each second while somebody needs room or there is none, and counted down by
 * what is written in between. While nobody needs any it is looked at seldom, and at once when somebody does. What finds no
 * room is refused before its first byte, so that another origin takes it.
 */
export class DiskRoom {
  readonly #deps: DiskRoomDeps;
  readonly #ask: FreeBytes;
  readonly #askInodes: FreeInodes | undefined;
  #free = Number.MAX_SAFE_INTEGER;
  #freeInodes = Number.POSITIVE_INFINITY;
  /** Why the disk took no write, as the system says it. */
  #failing: string | undefined;
  /** The last write that found no room was refused by a quota, of which free bytes say nothing. */
  #isQuota = false;
  /** Writes that a read-only or failing disk refused. */
  #refusals = 0;
  #heldUntilMs = 0;
  #shortLoggedMs = Number.NEGATIVE_INFINITY;
  #wasFull = false;
  #asking = false;
  /** Somebody needed room since the last look. */
  #isUsed = false;
  #runs = false;
  #timer: NodeJS.Timeout | undefined;
  /** Nobody needs room: the next look comes after the long pause. */
  #rests = false;

  constructor(deps: DiskRoomDeps) {
    this.#deps = deps;
    this.#ask = deps.freeBytes ?? (async () => await freeBytesOf(deps.dir));
    const ofSystem = deps.freeBytes === undefined ? async () => await freeInodesOf(deps.dir) : undefined;
    this.#askInodes = deps.freeInodes ?? ofSystem;
  }

  /** Resolves after the first look. */
  async start(): Promise<void> {
    this.#runs = true;
    await this.#look();
  }

  stop(): void {
    this.#runs = false;
    clearTimeout(this.#timer);
  }

  /** Free bytes of the disk, the reserve among them. */
  get freeBytes(): number {
    return this.#free;
  }

  get isFull(): boolean {
    return this.#deps.nowMs() < this.#heldUntilMs || this.#free <= RESERVE_BYTES || this.#lacksInodes;
  }

  /** What it lacks, and what to do. */
  get #lack(): readonly [lack: string, remedy: string] {
    if (this.#lacksInodes) return [NO_INODES, INODE_REMEDY];
    return this.#isQuota && this.#free > RESERVE_BYTES ? [QUOTA, QUOTA_REMEDY] : ['is full', REMEDY];
  }

  get #lacksInodes(): boolean {
    return this.#freeInodes <= RESERVE_INODES;
  }

  /** True from a write that a read-only or failing disk refused until one that it took, synced. */
  get isFailing(): boolean {
    return this.#failing !== undefined;
  }

  /** For `/readyz`: what this origin cannot do for want of room; empty where it can. */
  get warnings(): readonly string[] {
    if (this.#failing !== undefined)
      return [
        `the disk of ${this.#deps.dir} takes no writes (${this.#failing}): what it holds is read; look after it, or replace it`,
      ];
    if (!this.isFull) return [];
    const [lack, remedy] = this.#lack;
    const free = lack === 'is full' ? ` (${Math.floor(this.#free / 1024 ** 2)} MiB free)` : '';
    return [
      `the disk of ${this.#deps.dir} ${lack}${free}: no uploads, copies and fetches are taken; ${remedy}`,
    ];
  }

  /** Returns if `bytes` more fit beside the reserve. @throws {CodedError} `DISK_FULL` that names this origin */
  check(bytes: number): void {
    this.#use();
    if (this.isFull) throw this.#error();
    if (this.#free - RESERVE_BYTES >= bytes) return;
    throw this.#error(bytes);
  }

  /** As {@link check} for a blob that somebody wants here: what is refused is logged. */
  require(bytes: number): void {
    try {
      this.check(bytes);
    } catch (error) {
      this.#noteShort(bytes);
      throw error;
    }
  }

  /** The same files, but what is large leaves the reserve alone, and a full disk is noted. */
  guard(files: FilePort): FilePort {
    const noted = async <T>(call: () => Promise<T>): Promise<T> => await this.#noted(call);
    return {
      open: async (path, mode) => {
        if (mode === 'read') return await files.open(path, mode);
        return this.#guardFile(await noted(async () => await files.open(path, mode)));
      },
      rename: (from, to, onAside) => noted(() => files.rename(from, to, onAside)),
      unlink: (path) => files.unlink(path),
      list: (folder) => files.list(folder),
      stat: (path) => files.stat(path),
      makeFolder: (path) => noted(() => files.makeFolder(path)),
      syncFolder: (path) => noted(() => files.syncFolder(path)),
      touch: (path, atMs) => files.touch(path, atMs),
    };
  }

  #guardFile(file: OpenFile): OpenFile {
    let isUnsynced = false;
    return {
      read: (into, at) => file.read(into, at),
      write: async (bytes, at) => {
        this.#use();
        if (bytes.length > SMALL_BYTES && this.#free - RESERVE_BYTES < bytes.length) throw this.#noteFull();
        await this.#noted(async () => await file.write(bytes, at));
        isUnsynced = true;
        this.#free -= bytes.length;
      },
      truncate: (sizeBytes) => this.#noted(() => file.truncate(sizeBytes)),
      sync: async () => {
        const [proves, refusals] = [isUnsynced, this.#refusals];
        isUnsynced = false;
        await this.#noted(() => file.sync());
        // What was refused since it began is the newer word.
        if (proves && this.#failing !== undefined && refusals === this.#refusals) this.#noteWritten();
      },
      sizeBytes: () => file.sizeBytes(),
      close: () => file.close(),
    };
  }

  async #noted<T>(call: () => Promise<T>): Promise<T> {
    try {
      return await call();
    } catch (error) {
      if (systemOf(error) === 'EFBIG') throw this.#tooLarge(error);
      if (takesNoWrites(error)) throw this.#noteFull(error);
      throw error;
    }
  }

  /** Only files as large as this one are refused: the rest has room. */
  #tooLarge(cause: unknown): CodedError {
    const { selfId: origin, dir } = this.#deps;
    const message = `origin ${origin} may write no file as large as this blob; raise its limit of file sizes (ulimit -f, LimitFSIZE of systemd) or take another file system for ${dir}`;
    return new CodedError('DISK_FULL', { message, detail: { origin }, cause });
  }

  /** A write found no room, or no disk that takes it. */
  #noteFull(cause?: unknown): CodedError {
    this.#heldUntilMs = this.#deps.nowMs() + FULL_MS;
    const why = isCoded(cause, 'DISK_FAILED') ? String(cause.detail['system']) : undefined;
    if (why !== undefined && this.#failing === undefined)
      this.#deps.log.error(this.#facts(), `disk takes no writes (${why}): other origins take them`);
    this.#failing = why ?? this.#failing;
    if (why !== undefined) this.#refusals += 1;
    this.#isQuota = systemOf(cause) === 'EDQUOT';
    this.#judge();
    return this.#error(undefined, cause);
  }

  /** What was written is on the disk: nothing less proves that it takes writes, for the rest goes to memory first. */
  #noteWritten(): void {
    this.#failing = undefined;
    this.#deps.log.info(this.#facts(), 'disk takes writes again');
  }

  #noteShort(neededBytes: number): void {
    const nowMs = this.#deps.nowMs();
    if (this.isFull || nowMs - this.#shortLoggedMs < SHORT_LOG_MS) return;
    this.#shortLoggedMs = nowMs;
    this.#deps.log.warn({ ...this.#facts(), neededBytes }, 'a blob does not fit on the disk; others take it');
  }

  #judge(): void {
    if (this.isFull === this.#wasFull) return;
    this.#wasFull = this.isFull;
    if (this.#failing !== undefined) return;
    const [lack, remedy] = this.#lack;
    if (this.#wasFull)
      this.#deps.log.error(
        this.#facts(),
        `disk ${lack}: no uploads, copies and fetches are taken; ${remedy}`,
      );
    else this.#deps.log.info(this.#facts(), 'disk has room again');
  }

  /** Somebody needs room: what is known of it may be old. */
  #use(): void {
    if (this.#rests) void this.#look();
    this.#isUsed = true;
  }

  async #look(): Promise<void> {
    clearTimeout(this.#timer);
    this.#rests = false;
    this.#isUsed = false;
    await this.#refresh();
    if (!this.#runs) return;
    clearTimeout(this.#timer);
    this.#rests = !this.#isUsed && !this.isFull;
    const restMs = this.#rests ? UNUSED_ROOM_LOOK_MS : ROOM_LOOK_MS;
    this.#timer = setTimeout(() => void this.#look(), restMs).unref();
  }

  async #refresh(): Promise<void> {
    if (this.#asking) return;
    this.#asking = true;
    try {
      this.#free = await this.#ask();
      if (this.#askInodes !== undefined) this.#freeInodes = await this.#askInodes();
    } catch (error) {
      logFailure(this.#deps.log, error, 'free bytes of the disk are not known', {}, 'debug');
    } finally {
      this.#asking = false;
    }
    this.#judge();
  }

  #facts(): object {
    return { dir: this.#deps.dir, freeBytes: this.#free, reserveBytes: RESERVE_BYTES };
  }

  #error(neededBytes?: number, cause?: unknown): CodedError {
    const { selfId } = this.#deps;
    const isShort = this.#free - RESERVE_BYTES <= 0 || this.#free - RESERVE_BYTES < (neededBytes ?? 0);
    if (this.#failing !== undefined && !isShort)
      return new CodedError('DISK_FAILED', {
        message: `disk of origin ${selfId} takes no writes (${this.#failing}); look after it`,
        detail: { origin: selfId },
        ...(cause === undefined ? {} : { cause }),
      });
    const [lack, remedy] = this.#lack;
    const message =
      lack === 'is full' && neededBytes !== undefined
        ? `disk of origin ${selfId} has no room for ${neededBytes} bytes; ${remedy}`
        : `disk of origin ${selfId} ${lack}; ${remedy}`;
    const detail = {
      origin: selfId,
      freeBytes: this.#free,
      ...(neededBytes === undefined ? {} : { neededBytes }),
    };
    return new CodedError('DISK_FULL', { message, detail, ...(cause === undefined ? {} : { cause }) });
  }
}

/** The system's own code of a write that was refused. */
function systemOf(error: unknown): unknown {
  return isCoded(error, 'DISK_FULL') ? error.detail['system'] : undefined;
}

/** What the system says. @throws what it says of a path that is not there */
export async function freeBytesOf(dir: string): Promise<number> {
  const { bavail, bsize } = await statfs(dir);
  return bavail * bsize;
}

/** What the system says; of a file system that makes inodes as it needs them it says that there are none, of which none are left. */
export async function freeInodesOf(dir: string): Promise<number> {
  const { files, ffree } = await statfs(dir);
  return files > 0 ? ffree : Number.POSITIVE_INFINITY;
}
