import type { Socket } from 'node:net';
import type { Bitfield } from '@sepia/base/bitfield';
import type { CodedError } from '@sepia/base/errors';
import type { WireLimits } from '../limits.ts';
import type { HardenedWire } from './wire.ts';
import type { WireRole } from './wire-auth.ts';
import type { GoneReason } from './wire-extensions.ts';

/** What the other end proved to be. */
export interface ProvenPeer {
  /** 40 hex characters. */
  readonly peerId: string;
  readonly origin: boolean;
  readonly zone: string;
  /** Block length for our requests, bytes. */
  readonly blockBytes: number;
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
  /** A valid request; the owner answers by {@link HardenedWire.sendBlock} or {@link HardenedWire.sendReject}. */
  onRequest(index: number, offset: number, length: number): void;
  onCancel(index: number, offset: number, length: number): void;
  /** Bytes of a requested block arrived in its target; `done` with the last ones. */
  onBlock(index: number, offset: number, count: number, done: boolean): void;
  onReject(index: number, offset: number): void;
  /** Less than the upload limit waits in the socket again. */
  onDrain(): void;
  /** Once. `error` is undefined after an orderly end. */
  onClosed(reason: GoneReason | undefined, error: CodedError | undefined): void;
}

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

/** Listens to one wire for a swarm. */
export interface LinkOwner {
  readonly events: Omit<WireOwner, 'onSwarm' | 'onReady'>;
  onReady(wire: HardenedWire, peer: ProvenPeer, dialled: boolean): void;
}
