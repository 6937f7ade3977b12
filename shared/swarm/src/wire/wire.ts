import { Bitfield } from '@sepia/base/bitfield';
import type { CodedError } from '@sepia/base/errors';
import { pieceCount, pieceLength } from '@sepia/metainfo/tree';
import Wire from 'bittorrent-protocol';
import { WIRE_LIMITS, type WireLimits } from '../limits.ts';
import { HANDSHAKE_BYTES, invalidWire, readUint32 } from './frames.ts';
import { HaveBatch } from './have-batch.ts';
import { type Ends, MemberProof } from './member-proof.ts';
import type { WireRole } from './wire-auth.ts';
import * as ext from './wire-extensions.ts';
import { isBlockPlace, type LineOwner, WireLine } from './wire-line.ts';
import { FIXED_LENGTHS, ID } from './wire-messages.ts';
import type { PieceWire, WireInit } from './wire-owner.ts';

/**
 * One connection between two members: `bittorrent-protocol` 5.0.9, hardened. Replaces its parsing (O(n), unsigned
 * lengths, length caps), bitfield, request and piece handling; keeps its handshake and framing. Whatever a peer
 * sends, the wire is closed with `WIRE_INVALID` at worst: nothing throws. Pieces are taken and given only after both
 * ends proved the cluster key. See `docs/adr/0010-swarm-wire.md`.
 */
export class HardenedWire extends Wire implements PieceWire, LineOwner {
  readonly role: WireRole;
  readonly line: WireLine;
  readonly #init: WireInit;
  readonly #limits: WireLimits;
  readonly #proof: MemberProof;
  readonly #haves: HaveBatch;
  #swarmId: Uint8Array | undefined;
  #sizeBytes = 0;
  #mayBitfield = true;
  #gone: ext.Gone | undefined;

  constructor(init: WireInit) {
    super(init.role === 'dialer' ? 'tcpOutgoing' : 'tcpIncoming');
    this.#init = init;
    this.#limits = init.limits ?? WIRE_LIMITS;
    this.role = init.role;
    this.#proof = new MemberProof(init.clusterKey, init.role);
    this.#haves = new HaveBatch(this.#limits, (indexes) => {
      if (this.line.open) this.extended(this.#proof.ids!.sepia_have, ext.encodeHaves(indexes));
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
    this.line = new WireLine({
      socket: init.socket,
      limits: this.#limits,
      idleMs: this.#limits.idleMs,
      owner: this,
      events: init.owner,
    });
    if (init.swarm !== undefined) {
      this.#swarmId = init.swarm.id;
      this.#sizeBytes = init.swarm.sizeBytes;
      this.handshake(init.swarm.id, init.peerId, { fast: true });
    }
  }

  /** How many blocks may be requested at once: what the other end queues. */
  get requestLimit(): number {
    return this.#limits.queuedRequests;
  }

  sendBitfield(pieces: Bitfield): void {
    this.line.send(ID.bitfield, [], pieces.bytes);
  }

  /** Tells a piece at once; those that follow are batched over {@link WIRE_LIMITS.haveBatchMs}. */
  sendHave(index: number): void {
    if (this.line.open) this.#haves.add(index);
  }

  sendSuggest(index: number): void {
    this.line.send(ID.suggest, [index]);
  }

  sendRequest(index: number, offset: number, target: Uint8Array): void {
    this.line.request(index, offset, target);
  }

  sendCancel(index: number, offset: number): void {
    this.line.cancel(index, offset);
  }

  sendBlock(index: number, offset: number, bytes: Uint8Array, onTaken: () => void = () => {}): void {
    this.line.block(index, offset, bytes, onTaken);
  }

  sendReject(index: number, offset: number, length: number): void {
    this.line.peerRequests -= 1;
    this.line.send(ID.reject, [index, offset, length]);
  }

  /** A request left the owner's queue without an answer (it was cancelled). */
  forgetRequest(): void {
    this.line.peerRequests -= 1;
  }

  /** Says why and closes, orderly. Idempotent. */
  goodbye(reason: ext.GoneReason, piece?: number): void {
    if (this.line.closed) return;
    const { ids } = this.#proof;
    if (ids !== undefined) this.extended(ids.sepia_gone, ext.encodeGone(reason, piece));
    this.line.end(undefined, true);
  }

  /** Closes at once. Idempotent. The error must be coded. */
  fail(error: CodedError): void {
    this.line.end(error);
  }

  // LineOwner: what comes over the line.

  onHandshakeFrame(bytes: Uint8Array): void {
    if (bytes.length !== HANDSHAKE_BYTES || bytes[0] !== 19) throw invalidWire('not BitTorrent');
    if (Buffer.from(bytes.subarray(1, 20)).toString('latin1') !== 'BitTorrent protocol')
      throw invalidWire('not BitTorrent');
    if ((bytes[25]! & 0x10) === 0 || (bytes[27]! & 0x04) === 0)
      throw invalidWire('no member: extensions missing');
    this._onHandshakeBuffer(new Uint8Array(bytes.subarray(1)));
  }

  checkLength(length: number): void {
    const limit = this.line.ready ? this.#limits.memberMessageBytes : this.#limits.handshakeMessageBytes;
    if (length > limit) throw invalidWire(`message of ${length} bytes`);
  }

  onFrame(message: Uint8Array): void {
    const id = message[0]!;
    if (!this.line.ready && id !== ID.extended)
      throw invalidWire(`message ${id} before the cluster key was proven`);
    if (FIXED_LENGTHS[id] !== undefined && message.length !== FIXED_LENGTHS[id])
      throw invalidWire(`length of message ${id}`);
    switch (id) {
      case ID.have:
        this.#onHave([this.#index(message)]);
        return;
      case ID.bitfield:
        this._onBitField(message.subarray(1));
        return;
      case ID.request:
        this._onRequest(readUint32(message, 1), readUint32(message, 5), readUint32(message, 9));
        return;
      case ID.cancel:
        this.#init.owner.onCancel(readUint32(message, 1), readUint32(message, 5), readUint32(message, 9));
        return;
      case ID.suggest:
        this.#init.owner.onSuggest(this.#index(message));
        return;
      case ID.reject:
        this._onReject(readUint32(message, 1), readUint32(message, 5));
        return;
      case ID.extended:
        if (message.length < 2) throw invalidWire('empty extension message');
        this._onExtended(message[1]!, message.subarray(2));
        return;
      default:
        if (id > ID.extended) throw invalidWire(`message ${id}`);
    }
  }

  checkBlock(index: number, offset: number): void {
    if (!this.line.ready) throw invalidWire('piece before the cluster key was proven');
    if (!isBlockPlace(this.#pieceCount, index, offset)) throw invalidWire('piece that was not requested');
  }

  onEnd(error: CodedError | undefined): void {
    this.#haves.stop();
    this.#init.owner.onClosed(this.#gone, error);
  }

  // Overrides of bittorrent-protocol's private methods.

  override _debug(): void {}

  override _parseHandshake(): void {}

  override _push(data: Uint8Array): unknown {
    return this.line.write(data);
  }

  override _write(data: Uint8Array, callback: (error: Error | null) => void): void {
    this.line.receive(data);
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
        this.line.end(undefined, true);
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
    this.line.peerRequests += 1;
    if (this.line.peerRequests > this.#limits.queuedRequests) {
      this.sendReject(index, offset, length);
      return;
    }
    this.#init.owner.onRequest(index, offset, length);
  }

  override _onReject(index: number, offset: number): void {
    if (!isBlockPlace(this.#pieceCount, index, offset)) throw invalidWire('reject');
    if (this.line.requests.reject(index, offset)) this.#init.owner.onReject(index, offset);
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
      this.line.end(undefined);
      return;
    }
    if (!this.line.ready) throw invalidWire('extension before the cluster key was proven');
    if (id !== ext.EXTENSION_IDS.sepia_have) return;
    this.#onHave(ext.readHaves(payload, this.#pieceCount, this.#limits.haveBatch));
  }

  get #pieceCount(): number {
    return pieceCount(this.#sizeBytes);
  }

  #onHello(payload: Uint8Array): void {
    const proof = this.#proof.onHello(payload, this.#ends());
    this.extended(this.#proof.ids!.sepia_auth, proof);
  }

  #onProof(payload: Uint8Array): void {
    if (this.line.ready) throw invalidWire('proof out of order');
    const hello = this.#proof.onProof(payload, this.#ends());
    this.line.onReady();
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
}
