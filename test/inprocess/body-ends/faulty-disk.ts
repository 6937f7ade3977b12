import { CodedError } from '@sepia/base/errors';
import type { FilePort, OpenFile } from '@sepia/store/files/file-port';
import type { Chance } from '@sepia/swarm/core/random';

/** What a disk does to what is read of blobs and their leaf hashes. */
interface Ailments {
  /** Share of the reads that come late, fail or are wrong once. */
  readonly passing: number;
  /** Share of the reads whose bytes stay wrong from then on. */
  readonly lasting: number;
}

const LATE_MS = [1, 40, 900, 1_100, 6_000];

/** Stands over another disk; from {@link fallIll} on reads go wrong as chance has it, writes do not. */
export class FaultyDisk implements FilePort {
  readonly #files: FilePort;
  readonly #chance: Chance;
  #ailments: Ailments = { passing: 0, lasting: 0 };

  constructor(files: FilePort, chance: Chance) {
    this.#files = files;
    this.#chance = chance;
  }

  fallIll(ailments: Ailments): void {
    this.#ailments = ailments;
  }

  async open(...args: Parameters<FilePort['open']>): Promise<OpenFile> {
    const file = await this.#files.open(...args);
    return {
      read: async (into, at) => await this.#read(file, into, at),
      write: (bytes, at) => file.write(bytes, at),
      truncate: (sizeBytes) => file.truncate(sizeBytes),
      sync: () => file.sync(),
      sizeBytes: () => file.sizeBytes(),
      close: () => file.close(),
    };
  }

  async #read(file: OpenFile, into: Uint8Array, at: number): Promise<number> {
    const { passing, lasting } = this.#ailments;
    const chance = this.#chance;
    if (chance.next() < lasting) await rotAt(file, at + chance.below(Math.max(1, into.length)));
    const length = await file.read(into, at);
    if (length === 0 || chance.next() >= passing) return length;
    const dice = chance.below(4);
    if (dice === 0) into[chance.below(length)]! ^= 1 + chance.below(255);
    if (dice === 1) return chance.below(length);
    if (dice === 2) throw new CodedError('DISK_CORRUPT', { message: 'cannot be read' });
    if (dice === 3)
      await new Promise((resolve) => setTimeout(resolve, LATE_MS[chance.below(LATE_MS.length)]));
    return length;
  }

  rename = (from: string, to: string): Promise<void> => this.#files.rename(from, to);
  unlink = (path: string): Promise<void> => this.#files.unlink(path);
  list = (folder: string): Promise<string[]> => this.#files.list(folder);
  stat = (path: string) => this.#files.stat(path);
  makeFolder = (path: string): Promise<void> => this.#files.makeFolder(path);
  syncFolder = (path: string): Promise<void> => this.#files.syncFolder(path);
  touch = (path: string, atMs: number): Promise<void> => this.#files.touch(path, atMs);
}

async function rotAt(file: OpenFile, at: number): Promise<void> {
  const byte = new Uint8Array(1);
  if ((await file.read(byte, at)) === 0) return;
  byte[0]! ^= 0x10;
  await file.write(byte, at);
}
