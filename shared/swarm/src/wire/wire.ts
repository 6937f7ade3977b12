import type { Socket } from 'node:net';
import { Bitfield } from '@sepia/base/bitfield';
import { CodedError } from '@sepia/base/errors';
import { LEAF_BYTES, PIECE_BYTES, pieceCount, pieceLength } from '@sepia/metainfo/tree';
import Wire from 'bittorrent-protocol';
import { WIRE_LIMITS, type WireLimits } from '../limits.ts';
import { BlockRequests } from './block-requests.ts';
import { FrameParser, type FrameSink, HANDSHAKE_BYTES, invalidWire, readUint32 } from './frames.ts';
import { HaveBatch } from './have-batch.ts';
import { type Ends, MemberProof } from './member-proof.ts';
import { watchSilence } from './silence.ts';
import { TurnCork } from './turn-cork.ts';
import type { WireRole } from './wire-auth.ts';
import { wireError } from './wire-error.ts';
import * as ext from './wire-extensions.ts';
import { FIXED_LENGTHS, writeBlock } from './wire-messages.ts';
import type { WireInit } from './wire-owner.ts';

/**
 * One connection between two members: `bittorrent-protocol` 5.0.9, hardened. Replaces its parsing (O(n), unsigned
 * lengths, length caps), bitfield, request and piece handling; keeps its handshake and framing. Whatever a peer
 * sends, the wire is closed with `WIRE_INVALID` at worst: nothing throws. Pieces are taken and given only after both
 * ends proved the cluster key. See `docs/adr/0010-swarm-wire.md`.
 */
export class HardenedWire extends Wire implements FrameSink {
  readonly role: WireRole;
  closed = false;
  ready = false;
  downloadedBytes = 0;
  uploadedBytes = 0;
  readonly #init: WireInit;
  readonly #limits: WireLimits;
  readonly #socket: Socket;
  readonly #cork: TurnCork;
  readonly #parser: FrameParser;
  readonly #proof: MemberProof;
  readonly #haves: HaveBatch;
  readonly #timers: NodeJS.Timeout[] = [];
  #swarmId: Uint8Array | undefined;
  #sizeBytes = 0;
  #mayBitfield = true;
  #gone: ext.Gone | undefined;
  readonly #requests: BlockRequests;
  #peerRequests = 0;

  constructor(init: WireInit) {
    super(init.role === 'dialer' ? 'tcpOutgoing' : 'tcpIncoming');
    this.#init = init;
    this.#limits = init.limits ?? WIRE_LIMITS;
    this.role = init.role;
    this.#socket = init.socket;
    this.#cork = new TurnCork(init.socket);
    this.#parser = new FrameParser(this);
    this.#requests = new BlockRequests(this.#limits.cancelledRequests);
    this.#proof = new MemberProof(init.clusterKey, init.role);
    this.#haves = new HaveBatch(this.#limits, (indexes) => {
      if (this.#open()) this.extended(this.#proof.ids!.sepia_have, ext.encodeHaves(indexes));
    });
    this.extendedMapping = Object.fromEntries(
      Object.entries(ext.EXTENSION_IDS).map(([name, id]) => [id, name]),
    );
    this.extendedHandshake = ext.helloDictionary({
      version: ext.WIRE_VERSION,
      features: 0,
      blockBytes: this.#limits.memberBlockBytes,
      nonce: this.#proof.nonce,
      origin: init.origin,
      zone: init.zone,
    });
    this.#listen();
    if (init.swarm !== undefined) {
      this.#swarmId = init.swarm.id;
      this.#sizeBytes = init.swarm.sizeBytes;
      this.handshake(init.swarm.id, init.peerId, { fast: true });
    }
  }

  get queuedBytes(): number {
    return this.#socket.writableLength;
  }

  /** How many blocks may be requested at once: what the other end queues. */
  get requestLimit(): number {
    return this.#limits.queuedRequests;
  }

  get pendingRequests(): number {
    return this.#requests.size;
  }

  sendBitfield(pieces: Bitfield): void {
    if (this.#open()) this._message(5, [], pieces.bytes.slice());
  }

  /** Tells a piece; batched over {@link WIRE_LIMITS.haveBatchMs}. */
  sendHave(index: number): void {
    if (this.#open()) this.#haves.add(index);
  }

  sendSuggest(index: number): void {
    if (this.#open()) this._message(0x0d, [index], null);
  }

  /** Asks for a block. Its bytes are written to `target`, which stays borrowed until done, rejected or cancelled. */
  sendRequest(index: number, offset: number, target: Uint8Array): void {
    if (this.#requests.has(index, offset)) throw new TypeError('block requested twice');
    if (!this.#open()) return;
    this.#requests.add(index, offset, target);
    this._message(6, [index, offset, target.length], null);
  }

  /** Takes a request back; its target is free at once, late bytes are thrown away. */
  sendCancel(index: number, offset: number): void {
    const cancelled = this.#requests.cancel(index, offset);
    if (cancelled === undefined) return;
    if (cancelled.arriving) this.#parser.dropTarget();
    if (this.#open()) this._message(8, [index, offset, cancelled.length], null);
  }

  /** Answers a request. `bytes` must not change until `onTaken`: the socket took them, or never will. */
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

  sendReject(index: number, offset: number, length: number): void {
    this.#peerRequests -= 1;
    if (this.#open()) this._message(0x10, [index, offset, length], null);
  }

  /** A request left the owner's queue without an answer (it was cancelled). */
  forgetRequest(): void {
    this.#peerRequests -= 1;
  }

  /** Says why and closes, orderly. Idempotent. */
  goodbye(reason: ext.GoneReason, piece?: number): void {
    if (this.closed) return;
    const { ids } = this.#proof;
    if (ids !== undefined) this.extended(ids.sepia_gone, ext.encodeGone(reason, piece));
    this.#finish(undefined, true);
  }

  /** Closes at once. Idempotent. The error must be coded. */
  fail(error: CodedError): void {
    this.#finish(error, false);
  }

  // FrameSink: what the parser finds.

  onHandshakeFrame(bytes: Uint8Array): void {
    if (bytes.length !== HANDSHAKE_BYTES || bytes[0] !== 19) throw invalidWire('not BitTorrent');
    if (Buffer.from(bytes.subarray(1, 20)).toString('latin1') !== 'BitTorrent protocol')
      throw invalidWire('not BitTorrent');
    if ((bytes[25]! & 0x10) === 0 || (bytes[27]! & 0x04) === 0)
      throw invalidWire('no member: extensions missing');
    this._onHandshakeBuffer(new Uint8Array(bytes.subarray(1)));
  }

  checkLength(length: number): void {
    const limit = this.ready ? this.#limits.memberMessageBytes : this.#limits.handshakeMessageBytes;
    if (length > limit) throw invalidWire(`message of ${length} bytes`);
  }

  onFrame(message: Uint8Array): void {
    const id = message[0]!;
    if (!this.ready && id !== 20) throw invalidWire(`message ${id} before the cluster key was proven`);
    if (FIXED_LENGTHS[id] !== undefined && message.length !== FIXED_LENGTHS[id])
      throw invalidWire(`length of message ${id}`);
    switch (id) {
      case 4:
        this.#onHave([this.#index(message)]);
        return;
      case 5:
        this._onBitField(message.subarray(1));
        return;
      case 6:
        this._onRequest(readUint32(message, 1), readUint32(message, 5), readUint32(message, 9));
        return;
      case 8:
        this.#init.owner.onCancel(readUint32(message, 1), readUint32(message, 5), readUint32(message, 9));
        return;
      case 0x0d:
        this.#init.owner.onSuggest(this.#index(message));
        return;
      case 0x10:
        this._onReject(readUint32(message, 1), readUint32(message, 5));
        return;
      case 20:
        if (message.length < 2) throw invalidWire('empty extension message');
        this._onExtended(message[1]!, message.subarray(2));
        return;
      default:
        if (id > 20) throw invalidWire(`message ${id}`);
    }
  }

  onBlockHead(index: number, offset: number, length: number): Uint8Array | undefined {
    if (!this.ready) throw invalidWire('piece before the cluster key was proven');
    const known = index < this.#pieceCount && offset < PIECE_BYTES && offset % LEAF_BYTES === 0;
    if (!known) throw invalidWire('piece that was not requested');
    return this.#requests.begin(index, offset, length);
  }

  onBlockBytes(count: number, done: boolean): void {
    this.downloadedBytes += count;
    const block = this.#requests.onBytes(done);
    if (block !== undefined) this.#init.owner.onBlock(block.index, block.offset, count, done);
  }

  // Overrides of bittorrent-protocol's private methods.

  override _debug(): void {}

  override _parseHandshake(): void {}

  override _push(data: Uint8Array): unknown {
    if (this.closed || this.#socket.destroyed) return false;
    this.#cork.hold();
    return this.#socket.write(data);
  }

  override _write(data: Uint8Array, callback: (error: Error | null) => void): void {
    this.#receive(data);
    callback(null);
  }

  override _onHandshake(infoHash: Uint8Array, peerId: Uint8Array, extensions: object): void {
    const hex = Buffer.from(infoHash).toString('hex');
    const peerHex = Buffer.from(peerId).toString('hex');
    if (Buffer.compare(peerId, this.#init.peerId) === 0) throw invalidWire('connected to itself');
    if (this.role === 'dialer') {
      if (Buffer.compare(infoHash, this.#swarmId!) !== 0) throw invalidWire('another swarm');
      const expected = this.#init.swarm?.peerId;
      if (expected !== undefined && expected !== peerHex) throw invalidWire('another peer id');
    } else {
      const swarm = this.#init.owner.onSwarm(hex, peerHex);
      if (swarm === undefined) {
        this.#finish(undefined, true);
        return;
      }
      this.#swarmId = new Uint8Array(infoHash);
      this.#sizeBytes = swarm.sizeBytes;
    }
    super._onHandshake(new Uint8Array(infoHash), new Uint8Array(peerId), extensions);
    if (this.role === 'listener') this.handshake(this.#swarmId!, this.#init.peerId, { fast: true });
  }

  override _onBitField(bytes: Uint8Array): void {
    if (!this.#mayBitfield) throw invalidWire('bitfield twice or late');
    this.#mayBitfield = false;
    const pieces = new Bitfield(this.#pieceCount, bytes);
    if (bytes.length !== pieces.bytes.length) throw invalidWire('bitfield length');
    if (Buffer.compare(bytes, pieces.bytes) !== 0) throw invalidWire('bitfield spare bits');
    this.#init.owner.onBitfield(pieces);
  }

  override _onRequest(index: number, offset: number, length: number): void {
    const pieceBytes = index < this.#pieceCount ? pieceLength(this.#sizeBytes, index) : 0;
    if (length === 0 || length > this.#limits.memberBlockBytes || offset + length > pieceBytes)
      throw invalidWire('request');
    this.#peerRequests += 1;
    if (this.#peerRequests > this.#limits.queuedRequests) {
      this.sendReject(index, offset, length);
      return;
    }
    this.#init.owner.onRequest(index, offset, length);
  }

  override _onReject(index: number, offset: number): void {
    if (index >= this.#pieceCount || offset >= PIECE_BYTES || offset % LEAF_BYTES !== 0)
      throw invalidWire('reject');
    if (this.#requests.reject(index, offset)) this.#init.owner.onReject(index, offset);
  }

  override _onExtended(id: number, payload: Uint8Array): void {
    if (id === 0) {
      this.#onHello(payload);
      return;
    }
    if (id === ext.EXTENSION_IDS.sepia_auth) {
      this.#onProof(payload);
      return;
    }
    if (id === ext.EXTENSION_IDS.sepia_gone) {
      this.#gone = ext.readGone(payload);
      this.#finish(undefined, false);
      return;
    }
    if (!this.ready) throw invalidWire('extension before the cluster key was proven');
    if (id !== ext.EXTENSION_IDS.sepia_have) return;
    this.#onHave(ext.readHaves(payload, this.#pieceCount, this.#limits.haveBatch));
  }

  get #pieceCount(): number {
    return pieceCount(this.#sizeBytes);
  }

  #listen(): void {
    const socket = this.#socket;
    socket.on('data', (chunk: Buffer) => this.#receive(chunk));
    socket.on('drain', () => {
      if (socket.isPaused()) socket.resume();
      if (this.ready && !this.closed) this.#init.owner.onDrain();
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
      watchSilence(socket, this.#limits, {
        keepAlive: () => this.keepAlive(),
        fail: (error) => this.fail(error),
      }),
    );
    for (const timer of this.#timers) timer.unref();
  }

  #receive(chunk: Uint8Array): void {
    if (this.closed) return;
    try {
      this.#parser.push(chunk);
    } catch (error) {
      this.fail(wireError(error));
      return;
    }
    if (this.#socket.writableLength > this.#limits.controlBacklogBytes) this.#socket.pause();
  }

  #onHello(payload: Uint8Array): void {
    const proof = this.#proof.onHello(payload, this.#ends());
    this.extended(this.#proof.ids!.sepia_auth, proof);
  }

  #onProof(payload: Uint8Array): void {
    if (this.ready) throw invalidWire('proof out of order');
    const hello = this.#proof.onProof(payload, this.#ends());
    this.ready = true;
    clearTimeout(this.#timers[0]);
    const blockBytes = Math.min(hello.blockBytes, this.#limits.memberBlockBytes);
    this.#init.owner.onReady({
      peerId: this.peerId!,
      origin: hello.origin,
      zone: hello.zone,
      // Blocks must tile pieces and start at leaves: round down to a power of two.
      blockBytes: 2 ** Math.floor(Math.log2(blockBytes)),
    });
  }

  /** Undefined before the other end's handshake. */
  #ends(): Ends | undefined {
    if (this.#swarmId === undefined || this.peerId === null) return undefined;
    return {
      peerId: this.#init.peerId,
      theirPeerId: Buffer.from(this.peerId, 'hex'),
      swarmId: this.#swarmId,
    };
  }

  #onHave(indexes: readonly number[]): void {
    this.#mayBitfield = false;
    this.#init.owner.onHaves(indexes);
  }

  #index(message: Uint8Array): number {
    const index = readUint32(message, 1);
    if (index >= this.#pieceCount) throw invalidWire('index out of range');
    return index;
  }

  #open(): boolean {
    return this.ready && !this.closed;
  }

  #finish(error: CodedError | undefined, orderly: boolean): void {
    if (this.closed) return;
    this.closed = true;
    this.#haves.stop();
    for (const timer of this.#timers) clearTimeout(timer);
    this.#parser.dropTarget();
    this.#requests.clear();
    this.#cork.flush();
    if (orderly) {
      this.#socket.resume();
      this.#socket.end();
      this.#socket.setTimeout(1_000, () => this.#socket.destroy());
    } else this.#socket.destroy();
    this.#init.owner.onClosed(this.#gone, error);
  }
}
