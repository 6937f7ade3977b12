import { CodedError, type ErrorCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { BlobQuery, BlobWish, UpstreamBlob } from '@sepia/upstream/queries';
import type { BlobSource } from './blob-backend.ts';

/** Codes after which the next place is tried: it may have the blob, or answer. */
const GO_ON: ReadonlySet<ErrorCode> = new Set([
  'BLOB_UNKNOWN',
  'UPSTREAM_DENIED',
  'UPSTREAM_LIMITED',
  'UPSTREAM_POLICY',
  'BACKEND_DOWN',
  'UPSTREAM_LIES',
]);

/**
 * Blobs of the first source that has them. Where none has: the last one's word counts if it is the authority, else "not
 * there" counts only when all said so.
 */
export class FirstOf implements BlobSource {
  readonly #sources: readonly BlobSource[];
  readonly #lastDecides: boolean;

  constructor(sources: readonly BlobSource[], options: { readonly lastDecides: boolean }) {
    this.#sources = sources;
    this.#lastDecides = options.lastDecides;
  }

  async headBlob(query: BlobQuery, signal: AbortSignal): Promise<{ readonly sizeBytes: number | undefined }> {
    return await this.#ask(async (one) => await one.headBlob(query, signal), signal);
  }

  async getBlob(wish: BlobWish, signal: AbortSignal): Promise<UpstreamBlob> {
    return await this.#ask(async (one) => await one.getBlob(wish, signal), signal);
  }

  async #ask<T>(ask: (source: BlobSource) => Promise<T>, signal: AbortSignal): Promise<T> {
    let fault: CodedError | undefined;
    for (const [index, source] of this.#sources.entries()) {
      try {
        return await ask(source);
      } catch (error) {
        throwIfBug(error);
        signal.throwIfAborted();
        if (!(error instanceof CodedError) || !GO_ON.has(error.code)) throw error;
        const decides = this.#lastDecides && index === this.#sources.length - 1;
        if (decides || fault === undefined || fault.code === 'BLOB_UNKNOWN') fault = error;
      }
    }
    throw fault ?? new TypeError('no source');
  }
}
