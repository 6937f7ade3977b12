import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { giveBack } from '@sepia/base/chunk';
import { type Digest, Digester } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { ended, readElsewhere, throwIfBug } from '@sepia/base/failure';
import { createZstdFrames } from '@sepia/base/zstd/zstd-stream';
import { compressionOf } from '../compression.ts';
import { EntryBudget } from '../tar/entry-budget.ts';
import type { TarEntry } from '../tar/tar-entry.ts';
import { TarReader } from '../tar/tar-reader.ts';

/** zstd may look back 2 GiB where who compressed wanted it (`--long=31`), and takes that much memory. */
const WINDOW_TOO_LARGE = 'ZSTD_error_frameParameter_windowTooLarge';

/** A layer that was read whole: uncompressed on disk, with its entries. */
export interface ReadLayer {
  readonly entries: TarEntry[];
  readonly diffId: Digest;
  readonly sizeBytes: number;
}

interface Spool {
  append(bytes: Uint8Array): Promise<void>;
}

/**
 * Takes a layer's blob chunk by chunk (gzip, zstd or a plain tar, told by its first bytes), writes it uncompressed to
 * `spool`, and reads its entries on the way. `push` waits while the spool is slower.
 */
export class LayerReader {
  readonly #spool: Spool;
  readonly #maxBytes: number;
  readonly #budget: EntryBudget;
  readonly #onLarge: () => Promise<void>;
  readonly #digester = new Digester();
  readonly #entries: TarEntry[] = [];
  readonly #reader = new TarReader({ entry: (entry) => this.#addEntry(entry) });
  #sizeBytes = 0;
  #head: Buffer = Buffer.alloc(0);
  /** Decompressor and its consumer, once the first bytes told which; undefined for a plain tar. */
  #unpacking: { readonly stream: Duplex; readonly done: Promise<void> } | undefined;
  #isBegun = false;

  /**
   * @param maxBytes longest uncompressed layer that is taken
   * @param onLarge awaited before more is read of a layer of very many entries, again and again
   */
  constructor(
    spool: Spool,
    maxBytes: number,
    budget = new EntryBudget(),
    onLarge: () => Promise<void> = async () => undefined,
  ) {
    this.#spool = spool;
    this.#maxBytes = maxBytes;
    this.#budget = budget;
    this.#onLarge = onLarge;
  }

  /** @throws {CodedError} `LAYER_INVALID`, `LAYER_NOT_LAZY` where it is too long */
  async push(chunk: Uint8Array): Promise<void> {
    if (this.#isBegun) return await this.#feed(chunk);
    this.#head = Buffer.concat([this.#head, chunk]);
    if (this.#head.length >= 4) await this.#begin();
  }

  /** @throws as {@link push} */
  async end(): Promise<ReadLayer> {
    if (!this.#isBegun) await this.#begin();
    if (this.#unpacking !== undefined) {
      this.#unpacking.stream.end();
      await this.#unpacking.done;
    }
    this.#reader.end();
    return { entries: this.#entries, diffId: this.#digester.digest(), sizeBytes: this.#sizeBytes };
  }

  /** Lets go of what a layer that is not read to its end holds. Idempotent. */
  destroy(): void {
    this.#unpacking?.stream.destroy();
  }

  #addEntry(entry: TarEntry): void {
    const over = this.#budget.add(entry);
    if (over !== undefined) throw new CodedError('LAYER_NOT_LAZY', { message: over.message });
    this.#entries.push(entry);
  }

  async #begin(): Promise<void> {
    this.#isBegun = true;
    const head = this.#head;
    this.#head = Buffer.alloc(0);
    const stream = decompressorFor(head);
    if (stream !== undefined) {
      const done = this.#consume(stream);
      // Shown by `push` or `end`; a failure in between must not count as unhandled.
      readElsewhere(done);
      this.#unpacking = { stream, done };
    }
    if (head.length > 0) await this.#feed(head);
  }

  async #feed(chunk: Uint8Array): Promise<void> {
    const unpacking = this.#unpacking;
    if (unpacking === undefined) return await this.#take(chunk);
    const { stream, done } = unpacking;
    // Ended before the blob did, or failed: `done` says which.
    if (stream.destroyed || stream.readableEnded) return await done;
    if (stream.write(chunk)) return;
    const stop = new AbortController();
    const drained = once(stream, 'drain', { signal: stop.signal });
    readElsewhere(drained);
    await Promise.race([ended(drained), done]);
    if (stream.destroyed) await done;
    stop.abort();
  }

  async #consume(stream: Duplex): Promise<void> {
    try {
      for await (const bytes of stream as AsyncIterable<Buffer>) {
        await this.#take(bytes);
        giveBack(bytes);
      }
    } catch (cause) {
      throwIfBug(cause);
      const { code } = cause as NodeJS.ErrnoException;
      if (code === WINDOW_TOO_LARGE)
        throw new CodedError('LAYER_NOT_LAZY', {
          message: 'to decompress the layer takes a window of more than 128 MiB',
          cause,
        });
      if (code?.startsWith('Z_') !== true && code?.startsWith('ZSTD_') !== true) throw cause;
      throw new CodedError('LAYER_INVALID', { message: `the layer cannot be decompressed (${code})`, cause });
    }
  }

  async #take(bytes: Uint8Array): Promise<void> {
    this.#sizeBytes += bytes.length;
    if (this.#sizeBytes > this.#maxBytes)
      throw new CodedError('LAYER_NOT_LAZY', {
        message: `the layer is longer than ${this.#maxBytes} bytes uncompressed`,
      });
    this.#digester.update(bytes);
    this.#reader.push(bytes);
    if (this.#budget.isLarge) await this.#onLarge();
    await this.#spool.append(bytes);
  }
}

function decompressorFor(head: Uint8Array): Duplex | undefined {
  const compression = compressionOf(head);
  if (compression === 'gzip') return createGunzip({ chunkSize: 256 * 1024 });
  return compression === 'zstd' ? createZstdFrames() : undefined;
}
