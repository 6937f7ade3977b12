import type { BlockBuffers } from './block-buffers.ts';
import { WIRE_LIMITS } from './limits.ts';
import type { PieceStore } from './swarm.ts';
import type { HardenedWire } from './wire.ts';

interface Waiting {
  readonly index: number;
  readonly offset: number;
  readonly length: number;
}

/** What all wires of an engine share for uploads. */
export interface UploadBudget {
  /** Bytes that are being read or wait in sockets. */
  usedBytes: number;
  readonly buffers: BlockBuffers;
}

/**
 * Serves the requests of one wire, pulled by its socket: a block is read from disk only while less than 1 MiB waits
 * in the socket and less than 32 MiB in the engine; one always may, so that no wire starves. Order is kept; at most
 * 64 wait (the wire rejects the rest).
 */
export class Upload {
  readonly #wire: HardenedWire;
  readonly #pieces: PieceStore;
  readonly #budget: UploadBudget;
  #waiting: Waiting[] = [];
  /** Bytes that are being read or wait in the socket. */
  #openBytes = 0;
  #stopped = false;
  readonly #onSent: (bytes: number) => void;

  constructor(deps: {
    wire: HardenedWire;
    pieces: PieceStore;
    budget: UploadBudget;
    onSent: (bytes: number) => void;
  }) {
    this.#wire = deps.wire;
    this.#pieces = deps.pieces;
    this.#budget = deps.budget;
    this.#onSent = deps.onSent;
  }

  add(index: number, offset: number, length: number): void {
    this.#waiting.push({ index, offset, length });
    this.pull();
  }

  cancel(index: number, offset: number): void {
    const rest = this.#waiting.filter((one) => one.index !== index || one.offset !== offset);
    for (let i = rest.length; i < this.#waiting.length; i++) this.#wire.forgetRequest();
    this.#waiting = rest;
  }

  stop(): void {
    this.#stopped = true;
    this.#waiting = [];
  }

  /** Reads on, as far as the socket and the budget let it. */
  pull(): void {
    while (!this.#stopped && this.#waiting.length > 0) {
      if (this.#openBytes >= WIRE_LIMITS.wireUploadBytes) return;
      if (this.#budget.usedBytes >= WIRE_LIMITS.engineUploadBytes && this.#openBytes > 0) return;
      const next = this.#waiting.shift()!;
      this.#openBytes += next.length;
      this.#budget.usedBytes += next.length;
      void this.#serve(next);
    }
  }

  async #serve(one: Waiting): Promise<void> {
    const { buffers } = this.#budget;
    const buffer = buffers.take(one.length);
    let bytes: Uint8Array | undefined;
    try {
      bytes = await this.#pieces.readPiece(one.index, one.offset, one.length, buffer.subarray(0, one.length));
    } catch {
      bytes = undefined;
    }
    const done = (): void => {
      this.#openBytes -= one.length;
      this.#budget.usedBytes -= one.length;
      buffers.give(buffer);
      this.pull();
    };
    if (this.#stopped) return done();
    if (bytes?.length === one.length) {
      this.#onSent(bytes.length);
      this.#wire.sendBlock(one.index, one.offset, bytes, done);
    } else {
      this.#wire.sendReject(one.index, one.offset, one.length);
      done();
    }
    this.pull();
  }
}
