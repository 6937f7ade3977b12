import type { Socket } from 'node:net';
import type { CodedError } from '@sepia/base/errors';
import { pieceLength } from '@sepia/metainfo/tree';
import type { DownReason, LinkId, SwarmEvent } from '../core/events.ts';
import { WIRE_LIMITS } from '../limits.ts';
import type { PieceStore } from '../swarm.ts';
import type { GoneReason } from '../wire/wire-extensions.ts';
import { type FetchOwner, WireFetcher } from '../wire/wire-link.ts';
import type { PieceWire, ProvenPeer } from '../wire/wire-owner.ts';
import { Upload, type UploadBudget, type UploadGate } from './upload.ts';

/** One proven wire of a swarm: turns what it says into events of the core, and effects into messages. */
export class PeerLink {
  readonly id: LinkId;
  readonly wire: PieceWire;
  readonly peer: ProvenPeer;
  readonly address: string;
  readonly fetcher: WireFetcher;
  readonly #upload: Upload;
  readonly #sizeBytes: number;
  readonly #tell: (event: SwarmEvent) => void;
  /** Pieces that the core lets this peer have, until their last block was asked for. */
  readonly #admitted = new Set<number>();
  readonly #asked = new Map<number, { offset: number; length: number }[]>();

  constructor(init: {
    id: LinkId;
    wire: PieceWire;
    peer: ProvenPeer;
    socket: Socket;
    sizeBytes: number;
    pieces: PieceStore;
    budget: UploadBudget;
    gate?: UploadGate;
    fetches: FetchOwner;
    onSent: (bytes: number) => void;
    tell: (event: SwarmEvent) => void;
  }) {
    this.id = init.id;
    this.wire = init.wire;
    this.peer = init.peer;
    this.address = `${init.socket.remoteAddress ?? '?'}:${init.socket.remotePort ?? 0}`;
    this.#sizeBytes = init.sizeBytes;
    this.#tell = init.tell;
    this.fetcher = new WireFetcher(init.wire, init.sizeBytes, init.fetches);
    this.fetcher.blockBytes = init.peer.blockBytes;
    this.#upload = new Upload({
      wire: init.wire,
      pieces: init.pieces,
      budget: init.budget,
      onSent: init.onSent,
      gate: init.gate,
    });
  }

  onRequest(index: number, offset: number, length: number): void {
    if (this.#admitted.has(index)) {
      this.#queue(index, offset, length);
      return;
    }
    const waiting = this.#asked.get(index);
    if (waiting !== undefined) {
      waiting.push({ offset, length });
      return;
    }
    this.#asked.set(index, [{ offset, length }]);
    this.#tell({ type: 'asked', link: this.id, index });
  }

  /** The core's answer to `asked`. */
  onAnswer(index: number, admitted: boolean): void {
    const waiting = this.#asked.get(index) ?? [];
    this.#asked.delete(index);
    if (admitted) {
      this.#admitted.add(index);
      if (this.#admitted.size > WIRE_LIMITS.queuedRequests) {
        for (const oldest of this.#admitted) {
          this.#admitted.delete(oldest);
          break;
        }
      }
    }
    for (const { offset, length } of waiting) {
      if (admitted) this.#queue(index, offset, length);
      else this.wire.sendReject(index, offset, length);
    }
  }

  onCancel(index: number, offset: number): void {
    this.#upload.cancel(index, offset);
  }

  /** The peer is choked: its open requests are rejected. */
  dropRequests(): void {
    this.#upload.clear();
    this.#admitted.clear();
  }

  onDrain(): void {
    this.#upload.pull();
  }

  /** Ends the wire for the core's reason. `piece`: came wrong from there. */
  close(reason: DownReason, piece?: number): void {
    this.wire.goodbye(GOODBYES[reason] ?? 'dropped', piece);
  }

  stop(): void {
    this.#upload.stop();
    this.#asked.clear();
  }

  #queue(index: number, offset: number, length: number): void {
    if (offset + length === pieceLength(this.#sizeBytes, index)) this.#admitted.delete(index);
    this.#upload.add(index, offset, length);
  }
}

const GOODBYES: Partial<Record<DownReason, GoneReason>> = {
  gone: 'dropped',
  full: 'full',
  done: 'done',
  duplicate: 'duplicate',
  stopping: 'stopping',
  banned: 'banned',
};

/** How the core names the end of a wire. */
export function downReason(gone: GoneReason | undefined, error: CodedError | undefined): DownReason {
  if (gone === 'dropped' || gone === 'banned') return 'gone';
  if (gone !== undefined) return gone;
  if (error === undefined) return 'closed';
  return error.code === 'WIRE_INVALID' ? 'invalid' : 'failed';
}
