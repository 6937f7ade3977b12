import type { Socket } from 'node:net';
import { Bitfield } from '@sepia/base/bitfield';
import type { CodedError } from '@sepia/base/errors';
import { LEAF_BYTES, pieceCount, pieceLength } from '@sepia/metainfo/tree';
import { WIRE_LIMITS, type WireLimits } from '../limits.ts';
import { invalidWire, readUint32 } from './frames.ts';
import type { WireRole } from './wire-auth.ts';
import type { GoneReason } from './wire-extensions.ts';
import { isBlockPlace, type LineOwner, WireLine } from './wire-line.ts';
import { FAST_BIT, FIXED_LENGTHS, ID, plainHandshake } from './wire-messages.ts';
import type { PieceWire, WireEvents } from './wire-owner.ts';

/** What a wire to a stranger tells beside {@link WireEvents}. */
export interface StrangerEvents extends WireEvents {
  /** The handshake is done; what is sent from here on is sent in this call or later. */
  onReady(): void;
  /** The peer choked us, or unchoked us. Requests that it dropped are told by `onReject`. */
  onChoke(on: boolean): void;
  /** The peer became interested, or not interested. */
  onInterest(on: boolean): void;
}

export interface StrangerWireInit {
  readonly socket: Socket;
  readonly role: WireRole;
  /** Ours, 20 bytes. */
  readonly peerId: Uint8Array;
  /** SHA-1 of the torrent's info, 20 bytes. */
  readonly infoHash: Uint8Array;
  readonly sizeBytes: number;
  readonly owner: StrangerEvents;
  readonly limits?: WireLimits;
}

/**
 * A connection to a standard BitTorrent client: BEP 3, with BEP 6 where both offer it, nothing else. Blocks have 16 KiB.
 * Both ends begin choked and not interested. Whatever a peer sends, the wire is closed with `WIRE_INVALID` at worst:
 * nothing throws, and nothing is kept that has no limit. It reads as members' wires do (`FrameParser`).
 */
export class StrangerWire implements PieceWire, LineOwner {
  readonly role: WireRole;
  readonly line: WireLine;
  /** True while requests of the other end are not served. */
  choking = true;
  readonly #init: StrangerWireInit;
  readonly #limits: WireLimits;
  readonly #pieces: number;
  #fast = false;
  #peerChoking = true;
  #interested = false;
  #toldPieces = false;

  constructor(init: StrangerWireInit) {
    this.#init = init;
    this.#limits = init.limits ?? WIRE_LIMITS;
    this.role = init.role;
    this.#pieces = pieceCount(init.sizeBytes);
    this.line = new WireLine({
      socket: init.socket,
      limits: this.#limits,
      idleMs: this.#limits.strangerIdleMs,
      owner: this,
      events: init.owner,
    });
    if (init.role === 'dialer') this.line.write(plainHandshake(init.infoHash, init.peerId));
  }

  get requestLimit(): number {
    return this.#peerChoking ? 0 : this.#limits.queuedRequests;
  }

  /** Bytes that came before this wire was made. */
  receive(chunk: Uint8Array): void {
    this.line.receive(chunk);
  }

  /** What is here, once; later calls tell nothing. */
  sendBitfield(pieces: Bitfield): void {
    if (!this.line.open || this.#toldPieces) return;
    this.#toldPieces = true;
    if (this.#fast && pieces.complete) this.line.send(ID.haveAll);
    else this.line.send(ID.bitfield, [], pieces.bytes);
  }

  sendHave(index: number): void {
    this.line.send(ID.have, [index]);
  }

  /** Strangers choose for themselves. */
  sendSuggest(_index: number): void {}

  sendRequest(index: number, offset: number, target: Uint8Array): void {
    this.line.request(index, offset, target);
  }

  sendCancel(index: number, offset: number): void {
    this.line.cancel(index, offset);
  }

  sendBlock(index: number, offset: number, bytes: Uint8Array, onTaken: () => void = () => {}): void {
    this.line.block(index, offset, bytes, onTaken);
  }

  /** Without BEP 6 there is no such message: the other end asks again when it is tired of waiting. */
  sendReject(index: number, offset: number, length: number): void {
    this.line.peerRequests -= 1;
    if (this.#fast) this.line.send(ID.reject, [index, offset, length]);
  }

  forgetRequest(): void {
    this.line.peerRequests -= 1;
  }

  /** Serves the other end, or stops. The owner rejects what waits. */
  choke(on: boolean): void {
    if (!this.line.open || this.choking === on) return;
    this.choking = on;
    this.line.send(on ? ID.choke : ID.unchoke);
  }

  interest(on: boolean): void {
    if (!this.line.open || this.#interested === on) return;
    this.#interested = on;
    this.line.send(on ? ID.interested : ID.notInterested);
  }

  goodbye(_reason: GoneReason): void {
    this.line.end(undefined, true);
  }

  fail(error: CodedError): void {
    this.line.end(error);
  }

  // LineOwner: what comes over the line.

  onHandshakeFrame(bytes: Uint8Array): void {
    const expected = plainHandshake(this.#init.infoHash, this.#init.peerId);
    if (Buffer.compare(bytes.subarray(0, 20), expected.subarray(0, 20)) !== 0)
      throw invalidWire('not BitTorrent');
    if (Buffer.compare(bytes.subarray(28, 48), this.#init.infoHash) !== 0) throw invalidWire('another swarm');
    if (Buffer.compare(bytes.subarray(48, 68), this.#init.peerId) === 0)
      throw invalidWire('connected to itself');
    this.#fast = (bytes[27]! & FAST_BIT) !== 0;
    if (this.role === 'listener') this.line.write(expected);
    this.line.onReady();
    this.#init.owner.onReady();
    // With BEP 6 one of the three comes first, in any case.
    if (this.#fast && !this.#toldPieces) this.line.send(ID.haveNone);
    this.#toldPieces = true;
  }

  checkLength(length: number): void {
    const bitfieldBytes = 1 + Math.ceil(this.#pieces / 8);
    if (length > Math.max(this.#limits.strangerMessageBytes, bitfieldBytes))
      throw invalidWire(`message of ${length} bytes`);
  }

  onFrame(frame: Uint8Array): void {
    const id = frame[0]!;
    if (id === ID.port || id === ID.extended) return;
    if (FIXED_LENGTHS[id] !== undefined && frame.length !== FIXED_LENGTHS[id])
      throw invalidWire(`length of message ${id}`);
    if (id >= ID.suggest && id <= ID.allowedFast && !this.#fast)
      throw invalidWire(`message ${id} without the fast extension`);
    switch (id) {
      case ID.choke:
      case ID.unchoke:
        this.#onChoke(id === ID.choke);
        return;
      case ID.interested:
      case ID.notInterested:
        this.#init.owner.onInterest(id === ID.interested);
        return;
      case ID.have:
        this.#init.owner.onHaves([this.#index(frame)]);
        return;
      case ID.bitfield:
        this.#onBitfield(frame.subarray(1));
        return;
      case ID.haveAll:
      case ID.haveNone:
        this.#onBitfield(
          (id === ID.haveAll ? Bitfield.full(this.#pieces) : new Bitfield(this.#pieces)).bytes,
        );
        return;
      case ID.request:
        this.#onRequest(readUint32(frame, 1), readUint32(frame, 5), readUint32(frame, 9));
        return;
      case ID.cancel:
        this.#onCancel(readUint32(frame, 1), readUint32(frame, 5), readUint32(frame, 9));
        return;
      case ID.reject:
        this.#onReject(this.#index(frame), readUint32(frame, 5));
        return;
      case ID.suggest:
      case ID.allowedFast:
        return;
      default:
        throw invalidWire(`message ${id}`);
    }
  }

  checkBlock(index: number, offset: number, length: number): void {
    if (!this.line.ready || !isBlockPlace(this.#pieces, index, offset) || length > LEAF_BYTES)
      throw invalidWire('piece that was not requested');
  }

  keepAlive(): void {
    if (this.line.open) this.line.write(new Uint8Array(4));
  }

  onEnd(error: CodedError | undefined): void {
    this.#init.owner.onClosed(undefined, error);
  }

  #onChoke(on: boolean): void {
    this.#peerChoking = on;
    this.#init.owner.onChoke(on);
    // With BEP 6 each request is rejected by a message of its own.
    if (!on || this.#fast) return;
    for (const { index, offset } of this.line.cancelAll()) this.#init.owner.onReject(index, offset);
  }

  /** Also a later one: aria2 sends it in place of many HAVEs. */
  #onBitfield(bytes: Uint8Array): void {
    const pieces = new Bitfield(this.#pieces, bytes);
    if (Buffer.compare(bytes, pieces.bytes) !== 0) throw invalidWire('bitfield length or spare bits');
    this.#init.owner.onBitfield(pieces);
  }

  #onRequest(index: number, offset: number, length: number): void {
    const pieceBytes = index < this.#pieces ? pieceLength(this.#init.sizeBytes, index) : 0;
    if (length === 0 || length > LEAF_BYTES || offset + length > pieceBytes) throw invalidWire('request');
    this.line.peerRequests += 1;
    // A request that crossed our choke is dropped, as one too many is.
    if (this.choking || this.line.peerRequests > this.#limits.strangerRequests)
      this.sendReject(index, offset, length);
    else this.#init.owner.onRequest(index, offset, length);
  }

  /** With BEP 6 a request that was taken back is answered too. */
  #onCancel(index: number, offset: number, length: number): void {
    const waited = this.line.peerRequests;
    this.#init.owner.onCancel(index, offset, length);
    if (this.line.peerRequests < waited && this.#fast) this.line.send(ID.reject, [index, offset, length]);
  }

  #onReject(index: number, offset: number): void {
    if (!isBlockPlace(this.#pieces, index, offset)) throw invalidWire('reject');
    if (this.line.requests.reject(index, offset)) this.#init.owner.onReject(index, offset);
  }

  #index(frame: Uint8Array): number {
    const index = readUint32(frame, 1);
    if (index >= this.#pieces) throw invalidWire('index out of range');
    return index;
  }
}
