import { Readable } from 'node:stream';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import type { BlobQuery, BlobWish, UpstreamBlob } from '@sepia/upstream/queries';
import type { TargetClient } from '@sepia/upstream/target-client';
import type { UpstreamClient } from '@sepia/upstream/upstream-client';
import {
  type BackendEntry,
  type BlobBackend,
  type BlobContent,
  checkContent,
  chunksOf,
} from '../blob-backend.ts';

const CHUNK_BYTES = 256 * 1024;

interface RegistryBackendDeps {
  readonly reader: Pick<UpstreamClient, 'headBlob' | 'getBlob'>;
  readonly writer: Pick<TargetClient, 'host' | 'hasBlob' | 'begin' | 'upload' | 'deleteBlob' | 'close'>;
}

/** Blobs in a registry, over the distribution API. It cannot be listed: what it keeps is its own matter. */
export class RegistryBackend implements BlobBackend {
  readonly kind = 'registry';
  readonly #deps: RegistryBackendDeps;

  /** The reader stays its owner's: {@link RegistryBackend.close} closes the writer. */
  constructor(deps: RegistryBackendDeps) {
    this.#deps = deps;
  }

  get place(): string {
    return this.#deps.writer.host;
  }

  async headBlob(query: BlobQuery, signal: AbortSignal): Promise<{ readonly sizeBytes: number | undefined }> {
    return await this.#deps.reader.headBlob(query, signal);
  }

  async getBlob(wish: BlobWish, signal: AbortSignal): Promise<UpstreamBlob> {
    return await this.#deps.reader.getBlob(wish, signal);
  }

  /** Registries are shared; its accounts say who may write where. */
  async claim(): Promise<void> {}

  async requireFree(): Promise<void> {}

  async putBlob(content: BlobContent, signal: AbortSignal): Promise<'written' | 'there'> {
    const { repository, digest, sizeBytes } = content;
    const { writer } = this.#deps;
    if (await writer.hasBlob(repository, digest, signal)) return 'there';
    const begun = await writer.begin(repository, undefined, signal);
    if (begun.type === 'mounted') return 'there';
    let fault: CodedError | undefined;
    async function* chunks(start: number, end: number): AsyncGenerator<Uint8Array> {
      try {
        yield* chunksOf(content, start, end);
      } catch (error) {
        if (isCoded(error)) fault = error;
        throw error;
      }
    }
    const open = (start: number, end: number): Readable =>
      Readable.from(chunks(start, end), { objectMode: false, highWaterMark: CHUNK_BYTES });
    try {
      await writer.upload({ repository, digest, sizeBytes, open }, begun.url, signal);
    } catch (error) {
      // A body that could not be read looks like a connection that was cut, and other bytes are a bad request.
      if (fault !== undefined) throw fault;
      if (isCoded(error, 'UPSTREAM_DENIED')) await checkContent(content);
      throw error;
    }
    return 'written';
  }

  async deleteBlob(
    { repository, digest }: Pick<BlobQuery, 'digest'> & Partial<Pick<BlobQuery, 'repository'>>,
    signal: AbortSignal,
  ): Promise<void> {
    if (repository === undefined)
      throw new CodedError('METHOD_UNSUPPORTED', {
        message: `registry ${this.place} deletes no blob without its repository`,
        detail: { digest },
      });
    await this.#deps.writer.deleteBlob(repository, digest, signal);
  }

  // biome-ignore lint/correctness/useYield: it has nothing to give.
  async *listBlobs(
    _after: Digest | undefined,
    _signal: AbortSignal,
  ): AsyncGenerator<BackendEntry, void, void> {
    throw new CodedError('METHOD_UNSUPPORTED', { message: `registry ${this.place} cannot list its blobs` });
  }

  /** Registries end upload sessions themselves. */
  async tidy(_beforeMs: number, _signal: AbortSignal): Promise<number> {
    return 0;
  }

  async close(): Promise<void> {
    await this.#deps.writer.close();
  }
}
