import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { readElsewhere } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import type { BlobName } from '@sepia/base/names/blob-name';
import { checkedPiece } from '@sepia/http/bodies/checked-body';
import type { ReadableBlob } from '@sepia/http/bodies/readable-blob';
import { V1_HASH_BYTES, v1PieceHash } from '@sepia/metainfo/torrent';
import { pieceCount } from '@sepia/metainfo/tree';
import type { Blobs } from '../blobs/blobs.ts';
import type { Others } from '../cluster/others.ts';
import { TORRENT_MS } from '../deadlines/upstreams.ts';

/** Blobs that are read for a torrent at once; more are asked for again later. */
const MAX_MAKING = 2;
/** Torrents whose piece hashes are kept: 20 bytes a MiB each. */
const MAX_KEPT = 256;

/** Piece hashes of a v1 torrent, or the origin that has the blob. */
export type TorrentSource =
  | { readonly type: 'local'; readonly sizeBytes: number; readonly pieces: Uint8Array }
  | { readonly type: 'remote'; readonly id: string };

interface TorrentPiecesDeps {
  readonly blobs: Pick<Blobs, 'admit' | 'open'>;
  readonly stopping: AbortSignal;
}

interface Made {
  readonly sizeBytes: number;
  readonly pieces: Uint8Array;
}

/**
 * SHA-1 of each piece, made when a torrent is first asked for: the blob is read once, every leaf checked against the tree,
 * and only after its whole digest was verified is anything told. What is being made goes on when the asker left.
 */
export class TorrentPieces {
  readonly #deps: TorrentPiecesDeps;
  readonly #kept = new LatestMap<Digest, Made>(MAX_KEPT);
  readonly #making = new Map<Digest, Promise<Made>>();

  constructor(deps: TorrentPiecesDeps) {
    this.#deps = deps;
  }

  /** @throws as `Blobs.open`, `MEMBER_BUSY`, the reason of `signal` (ask again: it is being made) */
  async of(name: BlobName, others: Others, signal: AbortSignal): Promise<TorrentSource> {
    const { blobs } = this.#deps;
    await blobs.admit(name, signal);
    const kept = this.#kept.get(name.digest);
    if (kept !== undefined) return { type: 'local', ...kept };
    let making = this.#making.get(name.digest);
    if (making === undefined) {
      if (this.#making.size >= MAX_MAKING)
        throw new CodedError('MEMBER_BUSY', {
          message: 'other torrents are being made; ask again',
          detail: { retryAfterSeconds: 5 },
        });
      const opened = await blobs.open(name, { lastPiece: undefined, others }, signal);
      if (opened.type === 'remote') return opened;
      making = this.#making.get(name.digest);
      if (making === undefined) making = this.#begin(opened.blob, () => opened.close());
      else await opened.close();
    }
    return { type: 'local', ...(await orAborted(making, signal)) };
  }

  #begin(blob: ReadableBlob, close: () => Promise<void>): Promise<Made> {
    const making = this.#make(blob).finally(async () => {
      this.#making.delete(blob.digest);
      await close();
    });
    this.#making.set(blob.digest, making);
    readElsewhere(making);
    return making;
  }

  async #make(blob: ReadableBlob): Promise<Made> {
    const signal = AbortSignal.any([this.#deps.stopping, AbortSignal.timeout(TORRENT_MS)]);
    const count = pieceCount(blob.sizeBytes);
    const pieces = new Uint8Array(count * V1_HASH_BYTES);
    const reader = blob.openReader(0, blob.sizeBytes - 1);
    try {
      for (let index = 0; index < count; index++) {
        reader.move(index);
        pieces.set(v1PieceHash(await checkedPiece(blob, index, signal)), index * V1_HASH_BYTES);
      }
    } finally {
      reader.close();
    }
    if (!blob.isFinal) await blob.whenFinal(signal);
    const made = { sizeBytes: blob.sizeBytes, pieces };
    this.#kept.set(blob.digest, made);
    return made;
  }
}

async function orAborted<T>(running: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let onAbort = (): void => {};
  const aborted = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([running, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
