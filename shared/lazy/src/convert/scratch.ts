import type { Readable } from 'node:stream';
import type { TarBytes } from '../estargz/write.ts';

/** Room for one layer that is worked on: written once from its start, read anywhere. Dispose it when it was used. */
export interface Scratch extends TarBytes, AsyncDisposable {
  append(bytes: Uint8Array): Promise<void>;
  read(offset: number, length: number): Promise<Uint8Array>;
  /** A new stream of all its bytes. */
  stream(): Readable;
}

/** Gives room; it holds nothing yet. */
export type MakeScratch = () => Promise<Scratch>;
