import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { BlobHolders } from '@sepia/http/bodies/core/source-order';
import type { BlobSource } from '@sepia/http/bodies/remote-blob';
import { firstAttempt, Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceCount, pieceHash } from '@sepia/metainfo/tree';
import type { PartialBlob } from '@sepia/store/partial-blob';
import type { UpstreamClient } from '@sepia/upstream/upstream-client';
import { NO_TRACKER_MS } from '../deadlines.ts';
import type { Finding, Guide } from './guide-port.ts';

/** Guide of a download that comes straight from the upstream: nobody else is asked, hashes are our own. */
export class SourceGuide implements Guide {
  readonly finding: Finding;
  #bytes = 0;
  #isThinking = false;

  constructor(name: BlobName, sizeBytes: number) {
    const metainfo = Metainfo.open(name.digest, sizeBytes, firstAttempt(name.digest));
    this.finding = { metainfo, intervalMs: NO_TRACKER_MS, introduce: () => undefined };
  }

  find(): Promise<Finding> {
    return Promise.resolve(this.finding);
  }

  /** While the upstream has not begun to answer it counts like a byte: the client has a deadline for that. */
  fetchedBytes(): Promise<number> {
    if (this.#isThinking) this.#bytes += 1;
    return Promise.resolve(this.#bytes);
  }

  /** The upstream was asked, or began to answer. */
  thinks(isThinking: boolean): void {
    this.#isThinking = isThinking;
  }

  came(bytes: number): void {
    this.#bytes += bytes;
  }

  urge(): Promise<undefined> {
    return Promise.resolve(undefined);
  }

  wantAll(): void {}

  refetch(): Promise<Uint8Array> {
    return Promise.reject(new CodedError('NO_PEERS', { message: 'only the upstream itself answers' }));
  }

  holders(): BlobHolders {
    return { ids: [], areWhole: false };
  }

  source(): BlobSource {
    const nobody = (): Promise<never> =>
      Promise.reject(new CodedError('NO_PEERS', { message: 'only the upstream itself answers' }));
    return {
      find: nobody,
      metainfo: nobody,
      leaves: nobody,
      range: nobody,
      wantAll: nobody,
      isDefinite: () => false,
      wrong: () => undefined,
    };
  }

  async poll(_known: Metainfo, _etag: string, signal: AbortSignal): Promise<undefined> {
    return await new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  }
}

interface SourceHooks {
  /** Hears of progress between pieces. */
  readonly guide: SourceGuide;
  readonly onPiece: (index: number) => void;
}

/**
 * Streams a blob from the upstream into a partial, hashing pieces as they come. Resumes by Range after a cut, a few
 * times. The partial's metainfo becomes final when the whole digest is right.
 * @throws `BACKEND_DOWN`, `UPSTREAM_LIES`, and what the upstream client throws
 */
export async function fetchFromUpstream(
  client: UpstreamClient,
  name: BlobName,
  partial: PartialBlob,
  { guide, onPiece }: SourceHooks,
  signal: AbortSignal,
): Promise<void> {
  const pieces = pieceCount(partial.sizeBytes);
  for (let tries = 0; ; tries++) {
    const first = partial.have.nextMissing(0);
    if (first === -1) break;
    try {
      await fetchFrom(client, name, partial, first, { guide, onPiece }, signal);
    } catch (error) {
      throwIfBug(error);
      signal.throwIfAborted();
      if (tries >= 4 || partial.have.nextMissing(0) === first) throw error;
    }
  }
  // The cluster is back, and has said what is right: who stores it finds out whether it is.
  if (partial.metainfo.state === 'final' && pieces === partial.have.count) return;
  if (pieces !== partial.have.count || !(await partial.verifyWhole())) {
    throw new CodedError('UPSTREAM_LIES', { detail: { digest: name.digest } });
  }
  partial.metainfo.finalize();
}

async function fetchFrom(
  client: UpstreamClient,
  name: BlobName,
  partial: PartialBlob,
  first: number,
  { guide, onPiece }: SourceHooks,
  signal: AbortSignal,
): Promise<void> {
  const start = first * PIECE_BYTES;
  const range = start > 0 ? { range: { start } } : {};
  const asked = { repository: name.repository, digest: name.digest, sizeBytes: partial.sizeBytes, ...range };
  guide.thinks(true);
  const answer = await client.getBlob(asked, signal).finally(() => guide.thinks(false));
  if (answer.sizeBytes !== undefined && answer.sizeBytes !== partial.sizeBytes) {
    answer.body.destroy();
    throw new CodedError('SIZE_MISMATCH', {
      detail: { expected: partial.sizeBytes, found: answer.sizeBytes },
    });
  }
  let at = answer.start;
  let piece = Buffer.allocUnsafe(PIECE_BYTES);
  let fill = 0;
  for await (const chunk of answer.body) {
    guide.came(chunk.length);
    for (let used = 0; used < chunk.length; ) {
      const take = Math.min(PIECE_BYTES - fill, chunk.length - used);
      piece.set(chunk.subarray(used, used + take), fill);
      fill += take;
      used += take;
      if (fill === PIECE_BYTES || at + fill === partial.sizeBytes) {
        await store(partial, Math.floor(at / PIECE_BYTES), piece.subarray(0, fill), onPiece);
        at += fill;
        fill = 0;
        piece = Buffer.allocUnsafe(PIECE_BYTES);
      }
    }
    signal.throwIfAborted();
    if (at + fill > partial.sizeBytes)
      throw new CodedError('SIZE_MISMATCH', { detail: { expected: partial.sizeBytes } });
  }
  if (at !== partial.sizeBytes)
    throw new CodedError('BACKEND_DOWN', {
      message: 'upstream cut the body',
      detail: { digest: name.digest },
    });
}

async function store(
  partial: PartialBlob,
  index: number,
  bytes: Uint8Array,
  onPiece: (index: number) => void,
): Promise<void> {
  if (partial.have.has(index)) return;
  partial.metainfo.addHash(index, pieceHash(bytes));
  await partial.writePiece(index, bytes);
  onPiece(index);
}
