import { askEvery, askInTurn } from '@sepia/base/async/ask-many';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { BlobName } from '@sepia/base/names/blob-name';
import { H_BLOB_SIZE } from '@sepia/cluster/api/headers';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import type { Cluster } from '@sepia/cluster/cluster';
import { isDefinite } from '@sepia/cluster/core/answers';
import { candidatesOf } from '@sepia/cluster/ring';
import type { InternalClient } from '@sepia/http/client';
import type { TorrentFacts } from '@sepia/metainfo/torrent';
import { FACTS_MS, OPEN_CALL_MS } from '../deadlines.ts';

interface TorrentOriginsDeps {
  readonly cluster: Cluster;
  readonly client: InternalClient;
  readonly stopping: AbortSignal;
}

/** What the tracker asks of origins for strangers: a blob as a torrent, and its swarm opened. */
export class TorrentOrigins {
  readonly #deps: TorrentOriginsDeps;

  constructor(deps: TorrentOriginsDeps) {
    this.#deps = deps;
  }

  /** Size and SHA-1 piece hashes of a blob that strangers may have. @throws what the origins say, else `NO_PEERS` */
  async facts(name: BlobName, signal: AbortSignal): Promise<TorrentFacts> {
    // What one said is told rather than the silence of those that were asked after it.
    let told: unknown;
    const ask = async (id: string): Promise<TorrentFacts> => {
      try {
        const { headers, bytes } = await this.#deps.client.bytes({
          url: this.#deps.cluster.member(id).urls[0]!,
          to: id,
          ...to(ORIGIN_BLOBS.torrentPieces, name),
          headersTimeoutMs: FACTS_MS,
          signal: AbortSignal.any([signal, this.#deps.stopping]),
        });
        return { digest: name.digest, sizeBytes: Number(headers[H_BLOB_SIZE]), pieces: bytes };
      } catch (error) {
        throwIfBug(error);
        if (isCoded(error) && error.code !== 'NO_PEERS') told ??= error;
        throw error;
      }
    };
    try {
      return await askInTurn(this.#candidates(name), ask, { signal, isFinal: isDefinite });
    } catch (error) {
      throwIfBug(error);
      signal.throwIfAborted();
      throw isDefinite(error) ? error : (told ?? error);
    }
  }

  /**
   * Tells every origin that may hold the blob to let strangers in for so long; ids of those that do.
   * @throws a refusal of the policy; `NO_PEERS` if no origin said anything
   */
  async open(name: BlobName, infohash: string, ttl: number, address: readonly string[]): Promise<string[]> {
    const ids = this.#candidates(name);
    const values = { ...name, infohash, ttl, address };
    const outcomes = await askEvery(ids, async (id) => await this.#open(id, values));
    const refused = outcomes.find((one) => isCoded(one, 'AUTH_DENIED'));
    if (refused !== undefined) throw refused;
    if (outcomes.every((one) => one instanceof CodedError && !isDefinite(one)))
      throw new CodedError('NO_PEERS', { message: 'no origin answers' });
    return ids.filter((_id, at) => outcomes[at] === true);
  }

  async #open(
    id: string,
    values: BlobName & { infohash: string; ttl: number; address: readonly string[] },
  ): Promise<boolean | CodedError> {
    try {
      const { open } = await this.#deps.client.json<{ open: boolean }>({
        url: this.#deps.cluster.member(id).urls[0]!,
        to: id,
        ...to(ORIGIN_BLOBS.strangers, values),
        headersTimeoutMs: OPEN_CALL_MS,
        bodyTimeoutMs: OPEN_CALL_MS,
        signal: AbortSignal.any([this.#deps.stopping, AbortSignal.timeout(OPEN_CALL_MS)]),
      });
      return open;
    } catch (error) {
      throwIfBug(error);
      return isCoded(error) ? error : new CodedError('TIMEOUT', { cause: error });
    }
  }

  #candidates(name: BlobName): readonly string[] {
    return candidatesOf(this.#deps.cluster.origins(name.digest));
  }
}
