import { basename, dirname } from 'node:path';
import { CodedError } from '@sepia/base/errors';
import type { FileFacts, FilePort, OpenFile, OpenMode } from '../src/files/file-port.ts';

const PAGE_BYTES = 4096;
const SYNC_TURNS = 30;

/** Thrown by the operation at the crash point, and by every one after it. */
export class Crashed extends Error {
  override readonly name = 'Crashed';
}

interface Inode {
  bytes: Uint8Array;
  synced: Uint8Array;
  dirty: Set<number>;
  modifiedMs: number;
}

type Entry = Inode | 'folder';

/** A change of names that is not yet on disk. A rename is two: its `remove` never survives without its `add`. */
type NameChange =
  | { readonly type: 'add'; readonly path: string; readonly entry: Entry }
  | { readonly type: 'remove'; readonly path: string; readonly needs?: NameChange };

/** The crash to come: at the n-th changing operation (0-based), before or after it took effect. */
export interface CrashPoint {
  readonly operation: number;
  readonly applied: boolean;
}

/**
 * A file system in memory that forgets at a crash what was not synced: any subset of written pages, of sizes, of
 * new names, removals and renames. Names need a sync of their folder, bytes one of their file, as POSIX has it.
 */
export class CrashFiles implements FilePort {
  readonly #names: Map<string, Entry>;
  readonly #durable: Map<string, Entry>;
  #changes: NameChange[] = [];
  #operations = 0;
  #crash: CrashPoint | undefined;
  #dead = false;
  #freeBytes = Number.POSITIVE_INFINITY;

  constructor(root: string, state?: Map<string, Entry>) {
    this.#names = state ?? new Map([[root, 'folder']]);
    this.#durable = new Map(this.#names);
  }

  /** Changing operations so far. */
  get operations(): number {
    return this.#operations;
  }

  crashAt(point: CrashPoint): void {
    this.#crash = point;
  }

  /** From now on at most so many more bytes can be written. */
  limitSpace(bytes: number): void {
    this.#freeBytes = bytes;
  }

  /** Every name that is there. */
  paths(): string[] {
    return [...this.#names.keys()].sort();
  }

  /** The bytes of a file, to damage them in place. */
  peek(path: string): Uint8Array {
    return this.#file(path).bytes;
  }

  /** What a power loss leaves; `keep` decides of each unsynced thing. */
  afterPowerLoss(keep: () => boolean): CrashFiles {
    const names = new Map(this.#durable);
    const lost = new Set<NameChange>();
    for (const change of this.#changes) {
      if (!keep() || (change.type === 'remove' && change.needs !== undefined && lost.has(change.needs)))
        lost.add(change);
      else if (change.type === 'add') names.set(change.path, change.entry);
      else names.delete(change.path);
    }
    const state = new Map<string, Entry>();
    const inodes = new Map<Inode, Inode>();
    for (const [path, entry] of [...names].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const parent = dirname(path);
      if (path !== '/' && names.has(parent) === false && state.size > 0) continue;
      if (state.size > 0 && !state.has(parent)) continue;
      if (entry === 'folder') state.set(path, entry);
      else {
        if (!inodes.has(entry)) inodes.set(entry, survivor(entry, keep));
        state.set(path, inodes.get(entry)!);
      }
    }
    return new CrashFiles('/', state);
  }

  /** The process was killed and starts again: nothing is lost, and what was not synced still is not. */
  revive(): this {
    this.#dead = false;
    this.#crash = undefined;
    return this;
  }

  async open(path: string, mode: OpenMode): Promise<OpenFile> {
    this.#alive();
    if (mode !== 'create') return this.#handle(this.#file(path));
    if (this.#names.has(path)) throw systemError('EEXIST', path);
    this.#parent(path);
    const inode: Inode = {
      bytes: new Uint8Array(0),
      synced: new Uint8Array(0),
      dirty: new Set(),
      modifiedMs: 0,
    };
    this.#change(() => this.#add(path, inode));
    return this.#handle(inode);
  }

  async rename(from: string, to: string): Promise<void> {
    this.#alive();
    const inode = this.#file(from);
    this.#parent(to);
    this.#change(() => {
      const needs = this.#add(to, inode);
      this.#remove(from, needs);
    });
  }

  async unlink(path: string): Promise<void> {
    this.#alive();
    if (this.#names.has(path)) this.#change(() => this.#remove(path));
  }

  async list(folder: string): Promise<string[]> {
    this.#alive();
    return [...this.#names.keys()]
      .filter((path) => dirname(path) === folder && path !== folder)
      .map((path) => basename(path));
  }

  async stat(path: string): Promise<FileFacts | undefined> {
    this.#alive();
    const entry = this.#names.get(path);
    if (entry === undefined) return undefined;
    if (entry === 'folder') return { sizeBytes: 0, modifiedMs: 0, kind: 'folder' };
    return { sizeBytes: entry.bytes.length, modifiedMs: entry.modifiedMs, kind: 'file' };
  }

  async makeFolder(path: string): Promise<void> {
    this.#alive();
    this.#parent(path);
    if (!this.#names.has(path)) this.#change(() => this.#add(path, 'folder'));
  }

  async syncFolder(path: string): Promise<void> {
    await turns();
    this.#alive();
    if (this.#names.get(path) !== 'folder') throw systemError('ENOENT', path);
    this.#change(() => {
      const kept: NameChange[] = [];
      for (const change of this.#changes) {
        if (dirname(change.path) !== path) kept.push(change);
        else if (change.type === 'add') this.#durable.set(change.path, change.entry);
        else this.#durable.delete(change.path);
      }
      this.#changes = kept;
    });
  }

  async touch(path: string, atMs: number): Promise<void> {
    this.#alive();
    const entry = this.#names.get(path);
    if (entry !== undefined && entry !== 'folder') entry.modifiedMs = atMs;
  }

  #handle(inode: Inode): OpenFile {
    return {
      read: async (into, at) => {
        this.#alive();
        const found = inode.bytes.subarray(at, at + into.length);
        into.set(found);
        return found.length;
      },
      write: async (bytes, at) => {
        this.#alive();
        const copy = bytes.slice();
        if (copy.length > this.#freeBytes) throw new CodedError('DISK_FULL');
        this.#freeBytes -= copy.length;
        this.#change(() => writeTo(inode, copy, at));
      },
      truncate: async (sizeBytes) => {
        this.#alive();
        if (sizeBytes !== inode.bytes.length) this.#change(() => resize(inode, sizeBytes));
      },
      sync: async () => {
        await turns();
        this.#alive();
        this.#change(() => {
          inode.synced = inode.bytes.slice();
          inode.dirty.clear();
        });
      },
      sizeBytes: async () => inode.bytes.length,
      close: async () => undefined,
    };
  }

  #change(apply: () => void): void {
    const crash = this.#crash;
    const now = crash !== undefined && this.#operations === crash.operation;
    this.#operations += 1;
    if (!now || crash.applied) apply();
    if (!now) return;
    this.#dead = true;
    throw new Crashed(`at operation ${crash.operation}`);
  }

  #add(path: string, entry: Entry): NameChange {
    const change: NameChange = { type: 'add', path, entry };
    this.#names.set(path, entry);
    this.#changes.push(change);
    return change;
  }

  #remove(path: string, needs?: NameChange): void {
    this.#names.delete(path);
    this.#changes.push({ type: 'remove', path, ...(needs === undefined ? {} : { needs }) });
  }

  #file(path: string): Inode {
    const entry = this.#names.get(path);
    if (entry === undefined || entry === 'folder') throw systemError('ENOENT', path);
    return entry;
  }

  #parent(path: string): void {
    if (this.#names.get(dirname(path)) !== 'folder') throw systemError('ENOENT', path);
  }

  #alive(): void {
    if (this.#dead) throw new Crashed('after the crash');
  }
}

/** A sync takes a while: others run before it has taken effect. */
async function turns(): Promise<void> {
  for (let turn = 0; turn < SYNC_TURNS; turn++) await undefined;
}

function writeTo(inode: Inode, bytes: Uint8Array, at: number): void {
  if (at + bytes.length > inode.bytes.length) resize(inode, at + bytes.length);
  inode.bytes.set(bytes, at);
  for (let page = Math.floor(at / PAGE_BYTES); page * PAGE_BYTES < at + bytes.length; page++)
    inode.dirty.add(page);
}

function resize(inode: Inode, sizeBytes: number): void {
  const bytes = new Uint8Array(sizeBytes);
  bytes.set(inode.bytes.subarray(0, sizeBytes));
  inode.bytes = bytes;
}

function survivor(inode: Inode, keep: () => boolean): Inode {
  const size =
    inode.bytes.length === inode.synced.length || keep() ? inode.bytes.length : inode.synced.length;
  const bytes = new Uint8Array(size);
  bytes.set(inode.synced.subarray(0, size));
  for (const page of inode.dirty) {
    const at = page * PAGE_BYTES;
    if (at < size && keep()) bytes.set(inode.bytes.subarray(at, Math.min(at + PAGE_BYTES, size)), at);
  }
  return { bytes, synced: bytes.slice(), dirty: new Set(), modifiedMs: inode.modifiedMs };
}

function systemError(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${path}`), { code });
}
