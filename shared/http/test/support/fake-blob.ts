import { type Digest, digestOf } from '@sepia/base/digest';
import type { CodedError } from '@sepia/base/errors';
import { PIECE_BYTES, pieceCount, pieceHash, pieceLeaves, pieceLength } from '@sepia/metainfo/tree';
import { seededBytes } from '@sepia/test-support/upstream/fake-upstream';
import type { BlobReader, ReadableBlob } from '../../src/bodies/readable-blob.ts';

/** A blob in memory whose pieces and whole digest are verified when the test says so. */
export class FakeBlob implements ReadableBlob {
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly sizeBytes: number;
  isFinal = false;
  readonly provesWhole: boolean = true;
  readonly moves: number[] = [];
  openReaders = 0;
  readonly #pieces: PromiseWithResolvers<void>[];
  readonly #final = Promise.withResolvers<void>();

  constructor(sizeBytes: number, seed: string) {
    this.bytes = seededBytes(sizeBytes, seed);
    this.digest = digestOf(this.bytes);
    this.sizeBytes = sizeBytes;
    this.#pieces = Array.from({ length: pieceCount(sizeBytes) }, () => Promise.withResolvers<void>());
    for (const { promise } of [...this.#pieces, this.#final]) promise.catch(() => undefined);
  }

  /** All verified, as a blob from the cache. */
  static done(sizeBytes: number, seed: string): FakeBlob {
    const blob = new FakeBlob(sizeBytes, seed);
    blob.land(...blob.#pieces.keys());
    blob.finish();
    return blob;
  }

  readonly #landed = new Set<number>();

  has(index: number): boolean {
    return this.#landed.has(index);
  }

  land(...indexes: number[]): void {
    for (const index of indexes) {
      this.#landed.add(index);
      this.#pieces[index]!.resolve();
    }
  }

  finish(): void {
    this.isFinal = true;
    this.#final.resolve();
  }

  fail(error: CodedError): void {
    this.#final.reject(error);
    for (const { reject } of this.#pieces) reject(error);
  }

  async leaves(index: number, signal: AbortSignal): Promise<Uint8Array> {
    await orAborted(this.#pieces[index]!.promise, signal);
    const at = index * PIECE_BYTES;
    return pieceLeaves(this.bytes.subarray(at, at + pieceLength(this.sizeBytes, index)));
  }

  read(offset: number, into: Uint8Array): Promise<void> {
    into.set(this.bytes.subarray(offset, offset + into.length));
    return Promise.resolve();
  }

  pieceHash(index: number): Uint8Array {
    const at = index * PIECE_BYTES;
    return pieceHash(this.bytes.subarray(at, at + pieceLength(this.sizeBytes, index)));
  }

  mend(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  async whenFinal(signal: AbortSignal): Promise<void> {
    await orAborted(this.#final.promise, signal);
  }

  openReader(pieceIndex: number): BlobReader {
    this.openReaders += 1;
    this.moves.push(pieceIndex);
    return {
      move: (index) => this.moves.push(index),
      close: () => {
        this.openReaders -= 1;
      },
    };
  }
}

async function orAborted(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    promise.then(resolve, reject);
  });
}
