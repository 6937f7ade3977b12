import type { BlobHolders } from '@sepia/http/bodies/core/source-order';
import type { MetainfoNews } from '@sepia/http/bodies/metainfo-follower';
import type { BlobSource } from '@sepia/http/bodies/remote-blob';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import type { Swarm } from '@sepia/swarm/swarm';
import type { VouchedPiece } from '../cluster/origin-client.ts';

/** How a download learns who has the blob and what its pieces hash to. */
export interface Guide {
  /** Who has it now; joins the swarm again. */
  find(signal: AbortSignal): Promise<Finding>;
  /** More than the answer with `etag` said, or undefined when there is no news within the guide's own wait. */
  poll(known: Metainfo, etag: string, signal: AbortSignal): Promise<MetainfoNews | undefined>;
  /** What upstreams sent of it to the origins whose fetch runs now, in bytes: more than before is progress. */
  fetchedBytes(signal: AbortSignal): Promise<number>;
  /** Asks the fetching origin for a piece that it has not reached yet; answers when that one has it. */
  urge(
    span: { readonly sizeBytes: number; readonly index: number; readonly lastPiece: number },
    signal: AbortSignal,
  ): Promise<VouchedPiece | undefined>;
  /** From the next {@link find} on the whole blob is wanted, not only what is read. */
  wantAll(): void;
  /** One verified piece past the swarm, from whoever owns the blob. */
  refetch(metainfo: Metainfo, index: number, signal: AbortSignal): Promise<Uint8Array>;
  /** The origins as a source that needs no disk here. */
  source(): BlobSource;
  holders(metainfo: Metainfo): BlobHolders;
}

/** Who has a blob, by the tracker or the origins; asked again after `intervalMs`. */
export interface Finding {
  readonly metainfo: Metainfo;
  /** Hands peers and HTTP sources to the swarm. */
  readonly introduce: (swarm: Swarm) => void;
  readonly intervalMs: number;
}
