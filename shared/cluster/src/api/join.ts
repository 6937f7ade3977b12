import { hostPort } from '@sepia/base/config/units';
import { z } from 'zod';

/** Blobs up to this many bytes are one GET from an owning origin, never a swarm. */
export const SMALL_BLOB_BYTES = 256 * 1024;

/** Body of `POST /v1/swarms/<digest>/join`. `addresses` lists the peer ports where this swarm is reached. */
export const JOIN_REQUEST = z.object({
  nodeId: z.string().min(1).max(128),
  addresses: z.array(hostPort()).max(16),
  zone: z.string().max(64).optional(),
  upstream: z.string().max(64),
  repository: z.string().max(255),
  /** True while the node needs pieces. */
  leeching: z.boolean(),
  /** Open attempt that the node has pieces of (32 hex), if any. */
  attempt: z.string().max(64).optional(),
  /** `ranges`: only pieces that somebody reads are fetched, where the blob is not in the cluster yet. */
  want: z.enum(['all', 'ranges']).default('all'),
  /** The piece that is read first, where that is known. */
  piece: z
    .number()
    .int()
    .min(0)
    .max(2 ** 24)
    .optional(),
  /** Peers that the node wants, at most 50. */
  numwant: z.number().int().min(0).max(50).default(30),
});
/** What a node says when it joins a swarm, or again, see {@link JOIN_REQUEST}. */
export type JoinRequest = z.input<typeof JOIN_REQUEST>;

/**
 * A member that pieces can be fetched from. `peerId`: 40 hex; `addresses`: `host:port` each, all of the same member; `origin`: it
 * is one.
 */
export interface PeerEntry {
  readonly peerId: string;
  readonly nodeId: string;
  readonly addresses: readonly string[];
  readonly origin: boolean;
  readonly zone?: string;
}

/** A torrent (infohash: 40 hex) of a blob whose swarm is open to standard clients for so long. */
export interface OpenToStrangers {
  readonly digest: string;
  readonly infoHash: string;
  readonly ttlMs: number;
}

/** An origin that owns or fetches the blob; `urls` take signed `GET /v1/blobs/<digest>`. */
export interface OwnerEntry {
  readonly id: string;
  readonly urls: readonly string[];
}

/** Answer of join: small blobs come from an owner in one GET; others with metainfo (base64 of `Metainfo.encode`) and peers. */
export type JoinAnswer =
  | { readonly kind: 'small'; readonly sizeBytes: number; readonly owners: readonly OwnerEntry[] }
  | {
      readonly kind: 'swarm';
      readonly sizeBytes: number;
      readonly metainfo: string;
      readonly owners: readonly OwnerEntry[];
      readonly peers: readonly PeerEntry[];
      /** When to join again while pieces are lacking, in ms. */
      readonly intervalMs: number;
      /** Standard clients that take part. */
      readonly strangers?: OpenToStrangers & { readonly addresses: readonly string[] };
    };
