import type { Digest } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import type { BlobReader, ReadableBlob } from '@sepia/http/serve-blob';
import type { Download } from '../downloads/download.ts';
import type { Passage } from '../downloads/passage.ts';

/** One reader's view of a download: when the disk gets full the same body goes on, past the disk. */
export class EnduringBlob implements ReadableBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly #download: Download;
  readonly #passBy: (firstPiece: number | undefined) => Passage;
  #passage: Passage | undefined;
  #firstPiece: number | undefined;

  constructor(download: Download, passBy: (firstPiece: number | undefined) => Passage) {
    this.digest = download.digest;
    this.sizeBytes = download.sizeBytes;
    this.#download = download;
    this.#passBy = passBy;
  }

  get isFinal(): boolean {
    return (this.#passage ?? this.#download).isFinal;
  }

  async readPiece(index: number, signal: AbortSignal, into: Uint8Array): Promise<Uint8Array> {
    this.#firstPiece ??= index;
    return await this.#run(async (blob) => await blob.readPiece(index, signal, into));
  }

  async whenFinal(signal: AbortSignal): Promise<void> {
    await this.#run(async (blob) => await blob.whenFinal(signal));
  }

  openReader(pieceIndex: number, lastPiece: number): BlobReader {
    return this.#download.openReader(pieceIndex, lastPiece);
  }

  async #run<T>(step: (blob: ReadableBlob) => Promise<T>): Promise<T> {
    if (this.#passage === undefined) {
      try {
        return await step(this.#download);
      } catch (error) {
        if (!isCoded(error, 'DISK_FULL')) throw error;
        this.#passage ??= this.#passBy(this.#firstPiece);
      }
    }
    return await step(this.#passage);
  }
}
