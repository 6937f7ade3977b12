import type { Socket } from 'node:net';
import { Bitfield } from '@sepia/base/bitfield';
import { CodedError } from '@sepia/base/errors';
import { LEAF_BYTES, PIECE_BYTES, pieceCount, pieceLength } from '@sepia/metainfo/tree';
import { WIRE_LIMITS, type WireLimits } from '../limits.ts';
import { BlockRequests } from './block-requests.ts';
import { FrameParser, type FrameSink, invalidWire, readUint32 } from './frames.ts';
import { watchSilence } from './silence.ts';
import { TurnCork } from './turn-cork.ts';
import type { WireRole } from './wire-auth.ts';
import { wireError } from './wire-error.ts';
import type { GoneReason } from './wire-extensions.ts';
import { FAST_BIT, FIXED_LENGTHS, message, plainHandshake, writeBlock } from './wire-messages.ts';
import type { PieceWire, WireEvents } from './wire-owner.ts';

/** Message ids of BEP 3 and BEP 6 by what they are called there. */
const ID = Object.freeze({
  choke: 0,
  unchoke: 1,
  interested: 2,
  notInterested: 3,
  have: 4,
  bitfield: 5,
  request: 6,
  cancel: 8,
  port: 9,
  suggest: 13,
  haveAll: 14,
  haveNone: 15,
  reject: 16,
  allowedFast: 17,
  extended: 20,
});

/** What a wire to a stranger tells beside {@link WireEvents}. */
export interface StrangerEvents extends WireEvents {
  /** The handshake is done; what is sent from here on is sent in this call or later. */
  onReady(): void;
  /** It serves nothing, or does again. Requests that it dropped are told by `onReject`. */
  onChoke(on: boolean): void;
  /** It wants something of us, or no more. */
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
export class StrangerWire implements PieceWire, FrameSink {
  readonly role: WireRole;
  closed = false;
  ready = false;
  downloadedBytes = 0;
  uploadedBytes = 0;
  /** True while requests of the other end are not served. */
  choking = true;
  readonly #init: StrangerWireInit;
  readonly #limits: WireLimits;
  readonly #socket: Socket;
  readonly #cork: TurnCork;
  readonly #parser: FrameParser;
  readonly #requests: BlockRequests;
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #pieces: number;
  #fast = false;
  #peerChoking = true;
  #interested = false;
  #toldPieces = false;
  #peerRequests = 0;

  constructor(init: StrangerWireInit) {
    this.#init = init;
    this.#limits = init.limits ?? WIRE_LIMITS;
    this.role = init.role;
    this.#socket = init.socket;
    this.#cork = new TurnCork(init.socket);
    this.#parser = new FrameParser(this);
    this.#requests = new BlockRequests(this.#limits.cancelledRequests);
    this.#pieces = pieceCount(init.sizeBytes);
    this.#listen();
    if (init.role === 'dialer') this.#send(plainHandshake(init.infoHash, init.peerId));
  }

  get queuedBytes(): number {
    return this.#socket.writableLength;
  }

  get requestLimit(): number {
    return this.#peerChoking ? 0 : this.#limits.queuedRequests;
  }

  get pendingRequests(): number {
    return this.#requests.size;
  }

  /** Bytes that came before this wire was made. */
  receive(chunk: Uint8Array): void {
    if (this.closed) return;
    try {
      this.#parser.push(chunk);
    } catch (error) {
      this.fail(wireError(error));
      return;
    }
    if (this.#socket.writableLength > this.#limits.controlBacklogBytes) this.#socket.pause();
  }

  /** What is here, once; later calls tell nothing. */
  sendBitfield(pieces: Bitfield): void {
    if (!this.#open() || this.#toldPieces) return;
    this.#toldPieces = true;
    if (this.#fast && pieces.complete) this.#send(message(ID.haveAll));
    else this.#send(message(ID.bitfield, [], pieces.bytes));
  }

  sendHave(index: number): void {
    if (this.#open()) this.#send(message(ID.have, [index]));
  }

  /** Strangers choose for themselves. */
  sendSuggest(_index: number): void {}

  sendRequest(index: number, offset: number, target: Uint8Array): void {
    if (this.#requests.has(index, offset)) throw new TypeError('block requested twice');
    if (!this.#open()) return;
    this.#requests.add(index, offset, target);
    this.#send(message(ID.request, [index, offset, target.length]));
  }

  sendCancel(index: number, offset: number): void {
    const cancelled = this.#requests.cancel(index, offset);
    if (cancelled === undefined) return;
    if (cancelled.arriving) this.#parser.dropTarget();
    if (this.#open()) this.#send(message(ID.cancel, [index, offset, cancelled.length]));
  }

  sendBlock(index: number, offset: number, bytes: Uint8Array, onTaken: () => void = () => {}): void {
    this.#peerRequests -= 1;
    if (!this.#open() || this.#socket.destroyed) {
      onTaken();
      return;
    }
    this.#cork.hold();
    writeBlock(this.#socket, { index, offset, bytes }, onTaken);
    this.uploadedBytes += bytes.length;
  }

  /** Without BEP 6 there is no such message: the other end asks again when it is tired of waiting. */
  sendReject(index: number, offset: number, length: number): void {
    this.#peerRequests -= 1;
    if (this.#open() && this.#fast) this.#send(message(ID.reject, [index, offset, length]));
  }

  forgetRequest(): void {
    this.#peerRequests -= 1;
  }

  /** Serves the other end, or stops. The owner rejects what waits. */
  choke(on: boolean): void {
    if (!this.#open() || this.choking === on) return;
    this.choking = on;
    this.#send(message(on ? ID.choke : ID.unchoke));
  }

  interest(on: boolean): void {
    if (!this.#open() || this.#interested === on) return;
    this.#interested = on;
    this.#send(message(on ? ID.interested : ID.notInterested));
  }

  goodbye(_reason: GoneReason): void {
    this.#finish(undefined, true);
  }

  fail(error: CodedError): void {
    this.#finish(error, false);
  }

  // FrameSink: what the parser finds.

  onHandshakeFrame(bytes: Uint8Array): void {
    const expected = plainHandshake(this.#init.infoHash, this.#init.peerId);
    if (Buffer.compare(bytes.subarray(0, 20), expected.subarray(0, 20)) !== 0)
      throw invalidWire('not BitTorrent');
    if (Buffer.compare(bytes.subarray(28, 48), this.#init.infoHash) !== 0) throw invalidWire('another swarm');
    if (Buffer.compare(bytes.subarray(48, 68), this.#init.peerId) === 0)
      throw invalidWire('connected to itself');
    this.#fast = (bytes[27]! & FAST_BIT) !== 0;
    if (this.role === 'listener') this.#send(expected);
    this.ready = true;
    clearTimeout(this.#timers[0]);
    this.#init.owner.onReady();
    // With BEP 6 one of the three comes first, in any case.
    if (this.#open() && this.#fast && !this.#toldPieces) this.#send(message(ID.haveNone));
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

  onBlockHead(index: number, offset: number, length: number): Uint8Array | undefined {
    const known = index < this.#pieces && offset < PIECE_BYTES && offset % LEAF_BYTES === 0;
    if (!this.ready || !known || length > LEAF_BYTES) throw invalidWire('piece that was not requested');
    return this.#requests.begin(index, offset, length);
  }

  onBlockBytes(count: number, done: boolean): void {
    this.downloadedBytes += count;
    const block = this.#requests.onBytes(done);
    if (block !== undefined) this.#init.owner.onBlock(block.index, block.offset, count, done);
  }

  #onChoke(on: boolean): void {
    this.#peerChoking = on;
    this.#init.owner.onChoke(on);
    // With BEP 6 each request is rejected by a message of its own.
    if (!on || this.#fast) return;
    const dropped = this.#requests.cancelAll();
    if (dropped.length > 0) this.#parser.dropTarget();
    for (const { index, offset } of dropped) this.#init.owner.onReject(index, offset);
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
    this.#peerRequests += 1;
    // A request that crossed our choke is dropped, as one too many is.
    if (this.choking || this.#peerRequests > this.#limits.strangerRequests)
      this.sendReject(index, offset, length);
    else this.#init.owner.onRequest(index, offset, length);
  }

  /** With BEP 6 a request that was taken back is answered too. */
  #onCancel(index: number, offset: number, length: number): void {
    const waited = this.#peerRequests;
    this.#init.owner.onCancel(index, offset, length);
    if (this.#peerRequests >= waited || !this.#fast || !this.#open()) return;
    this.#send(message(ID.reject, [index, offset, length]));
  }

  #onReject(index: number, offset: number): void {
    if (offset >= PIECE_BYTES || offset % LEAF_BYTES !== 0) throw invalidWire('reject');
    if (this.#requests.reject(index, offset)) this.#init.owner.onReject(index, offset);
  }

  #index(frame: Uint8Array): number {
    const index = readUint32(frame, 1);
    if (index >= this.#pieces) throw invalidWire('index out of range');
    return index;
  }

  #listen(): void {
    const socket = this.#socket;
    socket.on('data', (chunk: Buffer) => this.receive(chunk));
    socket.on('drain', () => {
      if (socket.isPaused()) socket.resume();
      if (this.#open()) this.#init.owner.onDrain();
    });
    socket.on('end', () => this.#finish(undefined, false));
    socket.on('error', (cause) =>
      this.#finish(new CodedError('TIMEOUT', { message: 'connection broke', cause }), false),
    );
    socket.on('close', () => this.#finish(undefined, false));
    this.#timers.push(
      setTimeout(() => {
        if (!this.ready) this.fail(invalidWire('handshake takes too long'));
      }, this.#limits.handshakeMs),
      watchSilence(
        socket,
        { keepAliveMs: this.#limits.keepAliveMs, idleMs: this.#limits.strangerIdleMs },
        { keepAlive: () => this.#keepAlive(), fail: (error) => this.fail(error) },
      ),
    );
    for (const timer of this.#timers) timer.unref();
  }

  #keepAlive(): void {
    if (this.#open()) this.#send(new Uint8Array(4));
  }

  #send(bytes: Uint8Array): void {
    if (this.closed || this.#socket.destroyed) return;
    this.#cork.hold();
    this.#socket.write(bytes);
  }

  #open(): boolean {
    return this.ready && !this.closed;
  }

  #finish(error: CodedError | undefined, orderly: boolean): void {
    if (this.closed) return;
    this.closed = true;
    for (const timer of this.#timers) clearTimeout(timer);
    this.#parser.dropTarget();
    this.#requests.clear();
    this.#cork.flush();
    if (orderly) {
      this.#socket.resume();
      this.#socket.end();
      this.#socket.setTimeout(1_000, () => this.#socket.destroy());
    } else this.#socket.destroy();
    this.#init.owner.onClosed(undefined, error);
  }
}
