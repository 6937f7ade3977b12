import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { logFailure, throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { nameQuery } from '@sepia/cluster/api/name-query';
import { readLimited } from '@sepia/http/client';
import { PIECE_BYTES, pieceHash, pieceLength } from '@sepia/metainfo/tree';
import type { BlobStore, Provenance } from '@sepia/store/blob-store';
import type { PartialBlob } from '@sepia/store/partial-blob';
import { H_HOP, type Members } from '../cluster/members.ts';
import type { Upstreams } from '../upstream/upstreams.ts';

const PIECE_MS = 15_000;
const MAX_REPAIRS = 8;

interface RepairDeps {
  readonly members: Members;
  readonly store: BlobStore;
  readonly upstreams: Upstreams;
  readonly log: Logger;
}

/** Mends blobs that rotted on disk: only the bad pieces are fetched again, from other origins or the upstream. */
export class Repair {
  readonly #deps: RepairDeps;
  readonly #running = new Set<Digest>();

  constructor(deps: RepairDeps) {
    this.#deps = deps;
  }

  isMending(digest: Digest): boolean {
    return this.#running.has(digest);
  }

  /** A read found a damaged piece: it is mended behind, the reader tries another source. */
  noteRotten(digest: Digest, error: unknown): void {
    if (!isCoded(error, 'DISK_CORRUPT') || this.#running.has(digest) || this.#running.size >= MAX_REPAIRS)
      return;
    this.#running.add(digest);
    this.#deps.log.error({ digest, piece: error.detail['piece'] }, 'blob is damaged on disk; mending it');
    void this.#mend(digest)
      .then(
        () => this.#deps.log.info({ digest }, 'blob mended'),
        (cause: unknown) =>
          logFailure(this.#deps.log, cause, 'blob could not be mended', { digest }, 'error'),
      )
      .finally(() => this.#running.delete(digest));
  }

  async #mend(digest: Digest): Promise<void> {
    const { store } = this.#deps;
    const attrs = (await store.stat(digest))?.attrs;
    const partial = attrs === undefined ? undefined : await store.openForRepair(digest);
    if (attrs === undefined || partial === undefined) return;
    try {
      for (
        let piece = partial.have.nextMissing(0);
        piece !== -1;
        piece = partial.have.nextMissing(piece + 1)
      ) {
        const bytes = await this.#piece(partial, piece, attrs.provenance);
        await partial.writePiece(piece, bytes);
      }
      await partial.commit(attrs);
    } finally {
      await partial.release();
    }
  }

  /** @throws `NO_PEERS` when nobody has a good one */
  async #piece(partial: PartialBlob, piece: number, provenance: readonly Provenance[]): Promise<Uint8Array> {
    const { members, upstreams } = this.#deps;
    const { digest, sizeBytes } = partial;
    const start = piece * PIECE_BYTES;
    const end = start + pieceLength(sizeBytes, piece) - 1;
    const sources: (() => Promise<Uint8Array>)[] = [];
    for (const one of provenance) {
      for (const id of members.order(
        members.candidates(digest).filter((other) => other !== members.selfId),
      )) {
        sources.push(async () => {
          const path = `/v1/blobs/${digest}?${nameQuery(one)}`;
          const headers = { range: `bytes=${start}-${end}`, [H_HOP]: '1' };
          return (
            await members.bytes(
              id,
              {
                method: 'GET',
                path,
                headers,
                headersTimeoutMs: PIECE_MS,
                signal: AbortSignal.timeout(PIECE_MS),
              },
              PIECE_BYTES,
            )
          ).bytes;
        });
      }
      sources.push(async () => {
        const client = upstreams.client(one.upstream);
        if (client === undefined) throw new CodedError('NO_PEERS');
        const blob = await client.getBlob(
          { repository: parseRepositoryName(one.repository), digest, range: { start, end } },
          AbortSignal.timeout(PIECE_MS),
        );
        if (blob.status !== 'partial') {
          blob.body.destroy();
          throw new CodedError('NO_PEERS', { message: 'upstream ignores Range' });
        }
        return await readLimited(blob.body, PIECE_BYTES, one.upstream);
      });
    }
    let cause: unknown;
    for (const source of sources) {
      try {
        const bytes = await source();
        if (partial.metainfo.matches(piece, pieceHash(bytes))) return bytes;
      } catch (error) {
        throwIfBug(error);
        cause = error;
      }
    }
    throw new CodedError('NO_PEERS', {
      message: `nobody has a good piece ${piece}`,
      detail: { digest, piece },
      cause,
    });
  }
}
