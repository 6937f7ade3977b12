import { CodedError } from '@sepia/base/errors';
import { isBug } from '@sepia/base/failure';
import { WIRE_LIMITS } from '../limits.ts';
import type { PieceStore } from '../swarm.ts';
import type { PieceWire } from '../wire/wire-owner.ts';
import type { BlockBuffers } from './block-buffers.ts';

interface Waiting {
  readonly index: number;
  readonly offset: number;
  readonly length: number;
}

/** Memory that all wires of an engine share for what they send. */
export interface UploadBudget {
  /** Bytes of the buffers that are being read into or wait in sockets. */
  usedBytes: number;
  /** Above this a wire reads only when it has nothing else open. */
  readonly limitBytes: number;
  readonly buffers: BlockBuffers;
}

/** Lets bytes go out, or says when: for those who must wait for others. */
export interface UploadGate {
  /** True: send them now. False: `again` is called once it may be tried again. */
  take(bytes: number, again: () => void): boolean;
  forget(again: () => void): void;
}

/**
 * Serves the requests of one wire, pulled by its socket: a block is read from disk only while less than 1 MiB waits
 * in the socket and less than 32 MiB in the engine; one always may, so that no wire starves. Order is kept; at most
 * 64 wait (the wire rejects the rest).
 */
export class Upload {
  readonly #wire: PieceWire;
  readonly #pieces: PieceStore;
  readonly #budget: UploadBudget;
  #waiting: Waiting[] = [];
  /** Bytes that are being read or wait in the socket. */
  #openBytes = 0;
  #stopped = false;
  #pulling: NodeJS.Immediate | undefined;
  readonly #onSent: (bytes: number) => void;
  readonly #gate: UploadGate | undefined;
  readonly #again = (): void => this.pull();

  constructor(deps: {
    wire: PieceWire;
    pieces: PieceStore;
    budget: UploadBudget;
    onSent: (bytes: number) => void;
    gate?: UploadGate | undefined;
  }) {
    this.#wire = deps.wire;
    this.#pieces = deps.pieces;
    this.#budget = deps.budget;
    this.#onSent = deps.onSent;
    this.#gate = deps.gate;
  }

  add(index: number, offset: number, length: number): void {
    this.#waiting.push({ index, offset, length });
    if (this.#pulling !== undefined) return;
    // Requests of a piece come together: what follows each other is read at once.
    this.#pulling = setImmediate(() => {
      this.#pulling = undefined;
      this.pull();
    });
  }

  cancel(index: number, offset: number): void {
    const rest = this.#waiting.filter((one) => one.index !== index || one.offset !== offset);
    for (let i = rest.length; i < this.#waiting.length; i++) this.#wire.forgetRequest();
    this.#waiting = rest;
  }

  /** Rejects what waits. */
  clear(): void {
    for (const { index, offset, length } of this.#waiting) this.#wire.sendReject(index, offset, length);
    this.#waiting = [];
  }

  stop(): void {
    this.#stopped = true;
    this.#gate?.forget(this.#again);
    clearImmediate(this.#pulling);
    this.#waiting = [];
  }

  /** Reads on, as far as the socket and the budget let it. */
  pull(): void {
    while (!this.#stopped && this.#waiting.length > 0) {
      if (this.#openBytes > WIRE_LIMITS.wireUploadBytes - WIRE_LIMITS.uploadReadBytes) return;
      if (this.#budget.usedBytes >= this.#budget.limitBytes && this.#openBytes > 0) return;
      const run = this.#nextRun();
      const length = lengthOf(run);
      if (this.#gate?.take(length, this.#again) === false) {
        this.#waiting = [...run, ...this.#waiting];
        return;
      }
      this.#openBytes += length;
      this.#budget.usedBytes += this.#budget.buffers.sizeBytes;
      void this.#serve(run, length);
    }
  }

  /** Takes the longest run of waiting requests that lie one behind the other in a piece. Never empty. */
  #nextRun(): Waiting[] {
    const run = [this.#waiting.shift()!];
    let bytes = run[0]!.length;
    for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
      const last = run.at(-1)!;
      if (next.index !== last.index || next.offset !== last.offset + last.length) break;
      if (bytes + next.length > WIRE_LIMITS.uploadReadBytes) break;
      bytes += next.length;
      run.push(next);
      this.#waiting.shift();
    }
    return run;
  }

  async #serve(run: readonly Waiting[], length: number): Promise<void> {
    const { buffers } = this.#budget;
    const { index, offset } = run[0]!;
    const buffer = buffers.take();
    let bytes: Uint8Array | undefined;
    try {
      bytes = await this.#pieces.readPiece(index, offset, length, buffer.subarray(0, length));
    } catch (error) {
      if (isBug(error)) this.#wire.fail(new CodedError('INTERNAL', { cause: error }));
      bytes = undefined;
    }
    let open = run.length;
    const done = (one: Waiting): void => {
      this.#openBytes -= one.length;
      open -= 1;
      if (open > 0) return;
      this.#budget.usedBytes -= buffers.sizeBytes;
      buffers.give(buffer);
    };
    for (const one of run) {
      if (this.#stopped) done(one);
      else if (bytes?.length !== length) {
        this.#wire.sendReject(one.index, one.offset, one.length);
        done(one);
      } else {
        const at = one.offset - offset;
        this.#onSent(one.length);
        this.#wire.sendBlock(one.index, one.offset, bytes.subarray(at, at + one.length), () => {
          done(one);
          this.pull();
        });
      }
    }
    this.pull();
  }
}

function lengthOf(run: readonly Waiting[]): number {
  return run.reduce((sum, one) => sum + one.length, 0);
}
