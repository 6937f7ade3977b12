import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded, takesNoWrites } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { wholeDigest } from '@sepia/http/bodies/checked-body';
import type { BlobReader, ReadableBlob } from '@sepia/http/bodies/readable-blob';
import type { RemoteBlob } from '@sepia/http/bodies/remote-blob';
import type { LentBytes } from '@sepia/swarm/swarm';
import type { Download } from '../downloads/download.ts';

/** One reader's view of a download: when the disk gets full or fails the same body goes on, past the disk. */
export class EnduringBlob implements ReadableBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly provesWhole = true;
  readonly givesUp = true;
  readonly #download: Download;
  readonly #passBy: () => RemoteBlob;
  #passage: RemoteBlob | undefined;
  #reader: { readonly piece: number; readonly lastByte: number } | undefined;
  #isProven = false;

  constructor(download: Download, passBy: () => RemoteBlob) {
    this.digest = download.digest;
    this.sizeBytes = download.sizeBytes;
    this.#download = download;
    this.#passBy = passBy;
  }

  get isFinal(): boolean {
    return this.#passage === undefined ? this.#download.isFinal : this.#isProven;
  }

  has(index: number): boolean {
    return (this.#passage ?? this.#download).has(index);
  }

  async leaves(index: number, signal: AbortSignal): Promise<Uint8Array> {
    return await this.#run(async (blob) => await blob.leaves(index, signal));
  }

  async read(offset: number, into: Uint8Array, signal: AbortSignal): Promise<void> {
    await this.#run(async (blob) => await blob.read(offset, into, signal));
  }

  lend(index: number): LentBytes | undefined {
    return this.#passage === undefined ? this.#download.lend(index) : undefined;
  }

  pieceHash(index: number): Uint8Array | undefined {
    return this.#download.pieceHash(index);
  }

  async mend(index: number, signal: AbortSignal): Promise<Uint8Array | undefined> {
    return await this.#run<Uint8Array | undefined>(async (blob) => await blob.mend(index, signal));
  }

  /** Past the disk nothing was hashed in order: who reads from byte 0 has the whole read once more for its digest. */
  async whenFinal(signal: AbortSignal): Promise<void> {
    await this.#run(async (blob) => await blob.whenFinal(signal));
    const passage = this.#passage;
    if (passage === undefined || this.#isProven) return;
    const isWhole = this.#reader?.piece === 0 && this.#reader.lastByte === this.sizeBytes - 1;
    if (isWhole && (await wholeDigest(passage, signal)) !== this.digest) {
      passage.onWrongWhole();
      throw new CodedError('UPSTREAM_LIES', { detail: { digest: this.digest } });
    }
    this.#isProven = true;
  }

  openReader(piece: number, lastByte: number): BlobReader {
    this.#reader = { piece, lastByte };
    return this.#download.openReader(piece, lastByte);
  }

  /** Idempotent. */
  close(): void {
    this.#passage?.close();
  }

  async #run<T>(step: (blob: ReadableBlob) => Promise<T>): Promise<T> {
    if (this.#passage === undefined) {
      try {
        return await step(this.#download);
      } catch (error) {
        throwIfBug(error);
        if (!takesNoWrites(error) && !this.#isUnread(error)) throw error;
        this.#passage ??= this.#passBy();
        this.#passage.openReader(this.#reader?.piece ?? 0, this.#reader?.lastByte);
      }
    }
    return await step(this.#passage);
  }

  /** The download ended because the disk did not read what it had taken. A piece alone that is damaged is mended. */
  #isUnread(error: unknown): boolean {
    return isCoded(error, 'DISK_CORRUPT') && error === this.#download.error;
  }
}
