import type { Socket } from 'node:net';
import type { Bitfield } from '@sepia/base/bitfield';
import type { CodedError } from '@sepia/base/errors';
import type { WireLimits } from '../limits.ts';
import type { WireRole } from './wire-auth.ts';
import type { Gone, GoneReason } from './wire-extensions.ts';

/** What the other end of a wire proved to be, by the cluster key; a stranger proves nothing. */
export interface ProvenPeer {
  /** 40 hex characters. */
  readonly peerId: string;
  readonly origin: boolean;
  readonly zone: string;
  /** Block length for our requests, bytes. */
  readonly blockBytes: number;
  /** Proved nothing: a standard client in a swarm that is open to them. */
  readonly isStranger?: boolean;
}

/** What a wire tells its owner. No call comes before `onReady`, none after `onClosed`, except `onSwarm`. */
export interface WireOwner {
  /** A listener learned which swarm the dialer means. Returns the blob's size, or undefined: unknown, say goodbye. */
  onSwarm(swarmIdHex: string, peerIdHex: string): { readonly sizeBytes: number } | undefined;
  onReady(peer: ProvenPeer): void;
  /** Fresh copy. At most once, before any HAVE. */
  onBitfield(pieces: Bitfield): void;
  onHaves(indexes: readonly number[]): void;
  onSuggest(index: number): void;
  /** A valid request; the owner answers by {@link PieceWire.sendBlock} or {@link PieceWire.sendReject}. */
  onRequest(index: number, offset: number, length: number): void;
  onCancel(index: number, offset: number, length: number): void;
  /** Bytes of a requested block arrived in its target; `done` with the last ones. */
  onBlock(index: number, offset: number, count: number, done: boolean): void;
  onReject(index: number, offset: number): void;
  /** Less than the upload limit waits in the socket again. */
  onDrain(): void;
  /** Once. `gone`: what the other end said; `error` is undefined after an orderly end. */
  onClosed(gone: Gone | undefined, error: CodedError | undefined): void;
}

/** A connection before it says anything. `peerId`: ours, 20 bytes; `clusterKey`: what both ends prove. */
export interface WireInit {
  readonly socket: Socket;
  readonly role: WireRole;
  readonly clusterKey: Uint8Array;
  readonly peerId: Uint8Array;
  readonly origin: boolean;
  readonly zone: string;
  /** Dialer only. */
  readonly swarm?: { readonly id: Uint8Array; readonly sizeBytes: number; readonly peerId?: string };
  readonly owner: WireOwner;
  readonly limits?: WireLimits;
}

/** What a swarm asks of the connection under a wire. */
interface Line {
  readonly closed: boolean;
  /** Of blocks, without what frames them. */
  readonly downloadedBytes: number;
  readonly uploadedBytes: number;
  /** Our requests that were not answered yet. */
  readonly pendingRequests: number;
}

/** What a swarm does with a wire, be its peer a member or a stranger. */
export interface PieceWire {
  readonly line: Line;
  /** How many blocks may be requested at once. */
  readonly requestLimit: number;
  sendBitfield(pieces: Bitfield): void;
  sendHave(index: number): void;
  sendSuggest(index: number): void;
  sendRequest(index: number, offset: number, target: Uint8Array): void;
  sendCancel(index: number, offset: number): void;
  sendBlock(index: number, offset: number, bytes: Uint8Array, onTaken?: () => void): void;
  sendReject(index: number, offset: number, length: number): void;
  forgetRequest(): void;
  /** `piece`: came wrong from the other end, which looks at it again. */
  goodbye(reason: GoneReason, piece?: number): void;
  fail(error: CodedError): void;
}

/** What a swarm hears of a wire after it is ready. */
export type WireEvents = Omit<WireOwner, 'onSwarm' | 'onReady'>;

/** What a swarm gives to a wire: who hears its events, and `onReady`, called once when the other end has proved what it is. */
export interface LinkOwner<W extends PieceWire = PieceWire> {
  readonly events: WireEvents;
  onReady(wire: W, peer: ProvenPeer, dialled: boolean): void;
}
