import type { Readable } from 'node:stream';
import type { TarBytes } from '../estargz/write.ts';

/** Room for one layer that is worked on: written once from its start, read anywhere. Dispose it when it was used. */
export interface Scratch extends TarBytes, AsyncDisposable {
  append(bytes: Uint8Array): Promise<void>;
  read(offset: number, length: number): Promise<Uint8Array>;
  /** A new stream of its bytes from `start` to `end` (exclusive); without them, of all. */
  stream(start?: number, end?: number): Readable;
}

/** Gives empty room of its own for one layer's bytes, which the caller disposes of. */
export type MakeScratch = () => Promise<Scratch>;
