import type { Bitfield } from '@sepia/base/bitfield';
import type { Digest } from '@sepia/base/digest';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import type { Arrived } from './core/line/shared-line.ts';

/** Where the pieces of one blob lie; given to a swarm by whoever joins it. Indexes are 0-based. */
export interface PieceStore {
  readonly have: Bitfield;
  /**
   * Bytes of a stored piece, put in `into` (`length` long) or elsewhere; they must not change until the socket took
   * them. `into` is the caller's again when its bytes were taken, or the promise rejected.
   */
  readPiece(index: number, offset: number, length: number, into: Uint8Array): Promise<Uint8Array>;
  /** Stores a verified piece and adds it to `have`. `bytes` is only lent until the promise settles. */
  writePiece(index: number, bytes: Uint8Array, leaves?: Uint8Array): Promise<void>;
  /** A member got this piece from here and it was wrong: look at it again, and mend it. At most once a wire. */
  complained?(index: number): void;
}

/** A peer as the tracker tells it. `peerId`: 40 hex; addresses: `host:port`, best first. */
export interface PeerAddress {
  readonly peerId: string;
  readonly addresses: readonly string[];
  readonly origin: boolean;
  readonly zone?: string;
}

/** A source of whole pieces over HTTP, at an origin; used beside wires, as one of them. */
export interface HttpSource {
  /** Names the source; the same id again is the same source. */
  readonly id: string;
  has(index: number): boolean;
  /**
   * The whole piece; checked by its hash here. `onBytes` may be told of bytes as they come: a source that is silent
   * for a second counts as stalled.
   */
  fetchPiece(index: number, signal: AbortSignal, onBytes: (count: number) => void): Promise<Uint8Array>;
}

/** Who sent a piece: a member, an origin (over whichever way), or a standard client. */
export type PieceFrom = 'peer' | 'origin' | 'stranger';

/**
 * What went over one wire of a swarm since it came up: bytes of blocks, also of those that were thrown away.
 */
export interface LinkStats {
  readonly peerId: string;
  readonly address: string;
  readonly origin: boolean;
  /** How many pieces the other end has. */
  readonly pieces: number;
  readonly downBytes: number;
  readonly upBytes: number;
}

/** Counters of one swarm since its join. Bytes from peers and origins are those of verified pieces that were kept. */
export interface SwarmStats {
  readonly bytesFromPeers: number;
  /** From standard clients. */
  readonly bytesFromStrangers: number;
  /** Over wires and HTTP. */
  readonly bytesFromOrigin: number;
  readonly uploadedBytes: number;
  /** Verified or bad bytes that were thrown away. */
  readonly wastedBytes: number;
  readonly links: readonly LinkStats[];
}

/** A position in the blob that somebody reads from: its pieces come first. */
export interface Reader {
  move(pieceIndex: number): void;
  close(): void;
}

/** Bytes that stay as they are until `free` is called (idempotent). */
export interface LentBytes {
  readonly bytes: Uint8Array;
  free(): void;
}

type Unsubscribe = () => void;

/** One blob's swarm, as this member takes part in it. Listeners are called in order, after the piece is stored. */
export interface Swarm {
  readonly digest: Digest;
  readonly metainfo: Metainfo;
  readonly leech: boolean;
  addPeers(peers: readonly PeerAddress[]): void;
  /** Replaces the list. */
  setHttpSources(sources: readonly HttpSource[]): void;
  /** The caller added hashes to the same {@link Metainfo}. */
  metainfoChanged(): void;
  /** A piece was stored by somebody else: tell the peers. */
  pieceLanded(index: number): void;
  /** A reader that reads no further than `lastPiece` (the last one unless given). */
  openReader(pieceIndex: number, lastPiece?: number): Reader;
  /** A piece that was verified and stored a moment ago, whole, from the memory in which it was verified; often none. */
  lend(index: number): LentBytes | undefined;
  onPiece(listener: (index: number, from: PieceFrom) => void): Unsubscribe;
  /** Fires once; soon, if all is there already. */
  onComplete(listener: () => void): Unsubscribe;
  onBadPiece(listener: (bad: { index: number; peerId: string }) => void): Unsubscribe;
  /** Nobody can serve: ask the tracker again. At most once a second. */
  onWantPeers(listener: () => void): Unsubscribe;
  stats(): SwarmStats;
  /** Bytes that came so far, verified or not: of this swarm, and of all of the engine. */
  arrived(): Arrived;
  /**
   * Standard clients may take part for so long, under the infohash (20 bytes) of a torrent of this blob; a later call
   * prolongs it. What they send is checked as everybody's.
   */
  admitStrangers(infoHash: Uint8Array, ttlMs: number): void;
  /** Standard clients that may have pieces, as `host:port`; dialled only while they are admitted. */
  addStrangers(addresses: readonly string[]): void;
  setLeech(leech: boolean): void;
  /** Pieces that members on wires hold, origins and strangers left out; undefined while there is no such wire. A copy. */
  peerPieces(): Bitfield | undefined;
  /** A swarm joined with `wantAll: false` fetches everything from now on. */
  wantAll(): void;
  /** Says goodbye to all peers and forgets the swarm. Idempotent. */
  leave(): void;
}

/** What a member gives to take part. A new attempt of an open metainfo is a new join. */
export interface JoinInit {
  readonly digest: Digest;
  readonly metainfo: Metainfo;
  readonly pieces: PieceStore;
  readonly leech: boolean;
  /** False: only pieces that readers cover are fetched. Default true. */
  readonly wantAll?: boolean;
}

/** What a swarm needs of a logger. */
export interface SwarmLog {
  debug(detail: object, message: string): void;
  info(detail: object, message: string): void;
  warn(detail: object, message: string): void;
  error(detail: object, message: string): void;
}
