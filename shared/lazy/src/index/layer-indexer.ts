import { createHash } from 'node:crypto';
import { type Digest, Digester } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { compressionOf } from '../compression.ts';
import { GzipSpans } from '../gzip/gzip-spans.ts';
import { SPAN_BOUNDS, type SpanBounds } from '../span-bounds.ts';
import { ZstdSpans } from '../zstd/zstd-spans.ts';
import { EntryList } from './entry-list.ts';
import { type LayerCompression, type SpanToWrite, storeWindow, writeIndex } from './layer-index.ts';

/** An index that was made, with what was learned of the layer. */
export interface MadeIndex {
  readonly bytes: Buffer;
  readonly layer: Digest;
  readonly diffId: Digest;
  readonly compression: LayerCompression;
}

interface Decompressor {
  push(chunk: Uint8Array): void;
  end(): void;
}

/**
 * Makes the index of a layer blob in one pass: digest of the blob, diffID, tar entries, spans. The caller compares
 * `layer` with the digest that it asked for. About 80 MB of output per CPU second for gzip.
 */
export class LayerIndexer {
  readonly #options: Pick<SpanBounds, 'spanBytes'>;
  readonly #layer = new Digester();
  readonly #diffId = new Digester();
  readonly #entries = new EntryList();
  readonly #spans: SpanToWrite[] = [];
  #first: Uint8Array = new Uint8Array();
  #compression: LayerCompression = 'none';
  #decompressor: Decompressor | undefined;
  #compressedBytes = 0;
  #uncompressedBytes = 0;

  constructor(options: Pick<SpanBounds, 'spanBytes'> = SPAN_BOUNDS) {
    this.#options = options;
  }

  /** What was read so far, uncompressed. */
  get uncompressedBytes(): number {
    return this.#uncompressedBytes;
  }

  /** See `LargeLayers`. */
  get isLarge(): boolean {
    return this.#entries.isLarge;
  }

  /** The next bytes of the blob. @throws {CodedError} `LAYER_INVALID`, `LAYER_NOT_LAZY` (detail.reason says why) */
  push(chunk: Uint8Array): void {
    this.#layer.update(chunk);
    this.#compressedBytes += chunk.length;
    this.#decompressor?.push(chunk);
    if (this.#decompressor !== undefined) return;
    this.#first = Buffer.concat([this.#first, chunk]);
    if (this.#first.length >= 4) this.#begin();
  }

  /** @throws {CodedError} `LAYER_INVALID`, `LAYER_NOT_LAZY` */
  end(): MadeIndex {
    if (this.#decompressor === undefined) this.#begin();
    this.#decompressor!.end();
    const entries = this.#entries.end();
    const layer = this.#layer.digest();
    const diffId = this.#diffId.digest();
    const bytes = writeIndex({
      ...{ layer, diffId, compression: this.#compression, entries, spans: this.#spans },
      compressedBytes: this.#compressedBytes,
      uncompressedBytes: this.#uncompressedBytes,
    });
    return { bytes, layer, diffId, compression: this.#compression };
  }

  #begin(): void {
    this.#compression = compressionOf(this.#first);
    this.#decompressor = this.#decompressorOf(this.#compression);
    this.#decompressor.push(this.#first);
    this.#first = new Uint8Array();
  }

  #decompressorOf(compression: LayerCompression): Decompressor {
    const { spanBytes } = this.#options;
    const output = (bytes: Uint8Array): void => {
      this.#uncompressedBytes += bytes.length;
      this.#diffId.update(bytes);
      this.#entries.push(bytes);
    };
    if (compression === 'gzip') {
      const span = (one: SpanToWrite): void =>
        void this.#spans.push({ ...one, window: storeWindow(one.window) });
      return new GzipSpans({ output, span }, { ...SPAN_BOUNDS, spanBytes });
    }
    if (compression === 'zstd') {
      const span = (
        one: Omit<SpanToWrite, 'window' | 'compressedBit'> & { compressedOffset: number },
      ): void =>
        void this.#spans.push({ ...one, compressedBit: one.compressedOffset * 8, window: Buffer.alloc(0) });
      return new ZstdSpans({ output, span }, { ...SPAN_BOUNDS, spanBytes });
    }
    return new PlainSpans({ output, span: (one) => void this.#spans.push(one) }, spanBytes);
  }
}

/** Spans of a blob that is not compressed: every `spanBytes`. */
class PlainSpans implements Decompressor {
  readonly #sink: { output(bytes: Uint8Array): void; span(span: SpanToWrite): void };
  readonly #spanBytes: number;
  #hash = createHash('sha256');
  #offset = 0;
  #length = 0;

  constructor(sink: { output(bytes: Uint8Array): void; span(span: SpanToWrite): void }, spanBytes: number) {
    this.#sink = sink;
    this.#spanBytes = spanBytes;
  }

  push(chunk: Uint8Array): void {
    this.#sink.output(chunk);
    for (let at = 0; at < chunk.length; ) {
      const part = chunk.subarray(at, at + this.#spanBytes - this.#length);
      this.#hash.update(part);
      this.#length += part.length;
      at += part.length;
      if (this.#length === this.#spanBytes) this.#endSpan();
    }
  }

  end(): void {
    if (this.#length > 0) this.#endSpan();
  }

  #endSpan(): void {
    this.#sink.span({
      compressedBit: this.#offset * 8,
      offset: this.#offset,
      length: this.#length,
      sha256: this.#hash.digest(),
      window: Buffer.alloc(0),
    });
    this.#offset += this.#length;
    this.#length = 0;
    this.#hash = createHash('sha256');
  }
}

/** Fails where a made index is of another layer than was asked for. @throws {CodedError} `DIGEST_MISMATCH` */
export function assertLayer(made: MadeIndex, expected: { layer: Digest; diffId?: Digest }): void {
  const isRight = made.layer === expected.layer && (expected.diffId ?? made.diffId) === made.diffId;
  if (!isRight)
    throw new CodedError('DIGEST_MISMATCH', {
      detail: { expected: expected.layer, found: made.layer, diffId: made.diffId },
    });
}
