import type { Socket } from 'node:net';
import { CodedError } from '@sepia/base/errors';
import { LEAF_BYTES, PIECE_BYTES } from '@sepia/metainfo/tree';
import type { WireLimits } from '../limits.ts';
import { BlockRequests } from './block-requests.ts';
import { FrameParser, type FrameSink, invalidWire } from './frames.ts';
import { watchSilence } from './silence.ts';
import { TurnCork } from './turn-cork.ts';
import { wireError } from './wire-error.ts';
import { ID, message, writeBlock } from './wire-messages.ts';
import type { WireEvents } from './wire-owner.ts';

/** What a wire makes of what comes over its line; `on…Frame` and `check…` may throw a coded error, which ends it. */
export interface LineOwner extends Pick<FrameSink, 'onHandshakeFrame' | 'checkLength' | 'onFrame'> {
  /** A block begins: throws if it may not now. */
  checkBlock(index: number, offset: number, length: number): void;
  keepAlive(): void;
  /** Once. `error` is undefined after an orderly end. */
  onEnd(error: CodedError | undefined): void;
}

interface LineInit {
  readonly socket: Socket;
  readonly limits: WireLimits;
  /** A peer that sends nothing for this long is closed, in ms. */
  readonly idleMs: number;
  readonly owner: LineOwner;
  readonly events: Pick<WireEvents, 'onBlock' | 'onDrain'>;
}

/** Time for an orderly end to reach the other side, in ms. */
const FAREWELL_MS = 1_000;

/**
 * The connection under a wire, whoever is at its other end: reads messages and blocks, keeps our requests, writes what
 * one turn says in one call, reads no further while more than `controlBacklogBytes` wait to be written, closes what is
 * silent or late with its handshake. After {@link end} it says and hears nothing.
 */
export class WireLine implements FrameSink {
  closed = false;
  /** The handshake is done: messages go both ways. */
  ready = false;
  downloadedBytes = 0;
  uploadedBytes = 0;
  /** Requests of the peer that were not answered yet. */
  peerRequests = 0;
  readonly requests: BlockRequests;
  readonly #init: LineInit;
  readonly #cork: TurnCork;
  readonly #parser: FrameParser;
  readonly #handshake: NodeJS.Timeout;
  readonly #silence: NodeJS.Timeout;

  constructor(init: LineInit) {
    const { socket, limits, idleMs, owner } = init;
    this.#init = init;
    this.requests = new BlockRequests(limits.cancelledRequests);
    this.#cork = new TurnCork(socket);
    this.#parser = new FrameParser(this);
    socket.on('data', (chunk: Buffer) => this.receive(chunk));
    socket.on('drain', () => {
      if (socket.isPaused()) socket.resume();
      if (this.open) init.events.onDrain();
    });
    socket.on('end', () => this.end(undefined));
    socket.on('error', (cause) =>
      this.end(new CodedError('TIMEOUT', { message: 'connection broke', cause })),
    );
    socket.on('close', () => this.end(undefined));
    this.#handshake = setTimeout(() => this.end(invalidWire('handshake takes too long')), limits.handshakeMs);
    this.#silence = watchSilence(
      socket,
      { keepAliveMs: limits.keepAliveMs, idleMs },
      { keepAlive: () => owner.keepAlive(), fail: (error) => this.end(error) },
    );
    this.#handshake.unref();
    this.#silence.unref();
  }

  /** Between the handshake and the end. */
  get open(): boolean {
    return this.ready && !this.closed;
  }

  /** Our requests that were not answered yet. */
  get pendingRequests(): number {
    return this.requests.size;
  }

  onReady(): void {
    this.ready = true;
    clearTimeout(this.#handshake);
  }

  /** Takes bytes of the other end; never throws. */
  receive(chunk: Uint8Array): void {
    if (this.closed) return;
    try {
      this.#parser.push(chunk);
    } catch (error) {
      this.end(wireError(error));
      return;
    }
    const { socket, limits } = this.#init;
    if (socket.writableLength > limits.controlBacklogBytes) socket.pause();
  }

  /** Writes at once, before the handshake too. */
  write(bytes: Uint8Array): boolean {
    if (this.closed || this.#init.socket.destroyed) return false;
    this.#cork.hold();
    return this.#init.socket.write(bytes);
  }

  /** Sends a message while the line is open. */
  send(id: number, numbers: readonly number[] = [], tail?: Uint8Array): void {
    if (this.open) this.write(message(id, numbers, tail));
  }

  /** Asks for a block. Its bytes are written to `target`, which stays borrowed until done, rejected or cancelled. */
  request(index: number, offset: number, target: Uint8Array): void {
    if (this.requests.has(index, offset)) throw new TypeError('block requested twice');
    if (!this.open) return;
    this.requests.add(index, offset, target);
    this.send(ID.request, [index, offset, target.length]);
  }

  /** Takes a request back; its target is free at once, late bytes are thrown away. */
  cancel(index: number, offset: number): void {
    const cancelled = this.requests.cancel(index, offset);
    if (cancelled === undefined) return;
    if (cancelled.arriving) this.#parser.dropTarget();
    this.send(ID.cancel, [index, offset, cancelled.length]);
  }

  /** All our requests are void. Returns them. */
  cancelAll(): readonly { readonly index: number; readonly offset: number }[] {
    const dropped = this.requests.cancelAll();
    if (dropped.length > 0) this.#parser.dropTarget();
    return dropped;
  }

  /** Answers a request. `bytes` must not change until `onTaken`: the socket took them, or never will. */
  block(index: number, offset: number, bytes: Uint8Array, onTaken: () => void): void {
    this.peerRequests -= 1;
    const { socket } = this.#init;
    if (!this.open || socket.destroyed) {
      onTaken();
      return;
    }
    this.#cork.hold();
    writeBlock(socket, { index, offset, bytes }, onTaken);
    this.uploadedBytes += bytes.length;
  }

  /** Ends it, once: at once, or (`orderly`) after what was written. */
  end(error: CodedError | undefined, orderly = false): void {
    if (this.closed) return;
    this.closed = true;
    clearTimeout(this.#handshake);
    clearTimeout(this.#silence);
    this.#parser.dropTarget();
    this.requests.clear();
    this.#cork.flush();
    const { socket, owner } = this.#init;
    if (orderly) {
      socket.resume();
      socket.end();
      // The socket's own timeout begins anew with whatever the other end goes on to send.
      const cut = setTimeout(() => socket.destroy(), FAREWELL_MS).unref();
      socket.once('close', () => clearTimeout(cut));
    } else socket.destroy();
    owner.onEnd(error);
  }

  // FrameSink: what the parser finds.

  onHandshakeFrame(bytes: Uint8Array): void {
    this.#init.owner.onHandshakeFrame(bytes);
  }

  checkLength(length: number): void {
    this.#init.owner.checkLength(length);
  }

  onFrame(frame: Uint8Array): void {
    this.#init.owner.onFrame(frame);
  }

  onBlockHead(index: number, offset: number, length: number): Uint8Array | undefined {
    this.#init.owner.checkBlock(index, offset, length);
    return this.requests.begin(index, offset, length);
  }

  onBlockBytes(count: number, done: boolean): void {
    this.downloadedBytes += count;
    const block = this.requests.onBytes(done);
    if (block !== undefined) this.#init.events.onBlock(block.index, block.offset, count, done);
  }
}

/** Whether a block may lie there in a blob of so many pieces: at the begin of a leaf. */
export function isBlockPlace(pieces: number, index: number, offset: number): boolean {
  return index < pieces && offset < PIECE_BYTES && offset % LEAF_BYTES === 0;
}
