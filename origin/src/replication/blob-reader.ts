import { Readable } from 'node:stream';
import { CodedError } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import { H_HOP } from '@sepia/cluster/api/headers';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { checkedChunks } from '@sepia/http/bodies/checked-body';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import type { Blobs } from '../blobs/blobs.ts';
import type { Members } from '../cluster/members.ts';
import { OTHER_READ_MS } from '../deadlines/members.ts';
import { REPLICA_PIECE_MS } from '../deadlines/upstreams.ts';

/** Streams parts of blobs from wherever the cluster has them: this store, another origin, the upstream. */
export class BlobReader {
  readonly #deps: { readonly blobs: Blobs; readonly members: Members };

  constructor(deps: { readonly blobs: Blobs; readonly members: Members }) {
    this.#deps = deps;
  }

  /** Bytes from `start` to `end` (exclusive). `pace` is called before each chunk goes on. */
  open(
    name: BlobName,
    part: { readonly start: number; readonly end: number },
    pace: (bytes: number) => Promise<void>,
    signal: AbortSignal,
  ): Readable {
    return Readable.from(this.#read(name, part, pace, signal), {
      objectMode: false,
      highWaterMark: PIECE_BYTES,
    });
  }

  async *#read(
    name: BlobName,
    { start, end }: { readonly start: number; readonly end: number },
    pace: (bytes: number) => Promise<void>,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const opened = await this.#deps.blobs.open(name, { lastPiece: undefined, others: 'ask' }, signal);
    if (opened.type === 'remote')
      return yield* this.#fromOther(name, opened.id, { start, end }, pace, signal);
    const { blob } = opened;
    try {
      if (end > blob.sizeBytes)
        throw new CodedError('SIZE_MISMATCH', {
          detail: { digest: name.digest, end, found: blob.sizeBytes },
        });
      for await (const chunk of checkedChunks(blob, { start, end: end - 1 }, REPLICA_PIECE_MS, signal)) {
        await pace(chunk.length);
        yield chunk;
      }
    } finally {
      await opened.close();
    }
  }

  async *#fromOther(
    name: BlobName,
    id: string,
    { start, end }: { readonly start: number; readonly end: number },
    pace: (bytes: number) => Promise<void>,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const answer = await this.#deps.members.call(id, {
      ...to(ORIGIN_BLOBS.blob, name),
      headers: { [H_HOP]: '1', range: `bytes=${start}-${end - 1}` },
      headersTimeoutMs: OTHER_READ_MS,
      bodyTimeoutMs: OTHER_READ_MS,
      lasts: 'body',
      signal,
    });
    try {
      for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
        await pace(chunk.length);
        yield chunk;
      }
    } finally {
      answer.body.destroy();
    }
  }
}
