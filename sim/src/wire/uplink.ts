import type { Network, Port, Stream } from './network.ts';

/** What the wire's blocks are, unless a run asks for larger ones: uploads to several peers mix block by block. */
export const BLOCK_BYTES = 128 * 1024;
/** As of metainfo. */
export const PIECE_BYTES = 1024 * 1024;
/** Sent and not yet taken, per connection: what TCP's window and the shell's 1 MiB of socket queue let out. */
const WINDOW_BYTES = 4 * 1024 * 1024;

/** One connection's data in one direction. */
export interface Flow extends Stream {
  unackedBytes: number;
}

/** One piece that is being sent: its blocks leave one after the other. */
interface Sending {
  readonly index: number;
  leftBytes: number;
  readonly onBlock: (last: boolean) => void;
}

export function newFlow(to: Port): Flow {
  return { to, arrivedMs: 0, unackedBytes: 0 };
}

/** What one node sends: one block at a time, its connections in turn, each only while its window is open: fair TCP. */
export class Uplink {
  readonly blockBytes: number;
  readonly #port: Port;
  readonly #network: Network;
  /** Connections with something to send, in the order of their turns. */
  readonly #queues = new Map<Flow, Sending[]>();
  #sending = false;
  #dead = false;

  constructor(port: Port, network: Network, blockBytes: number = BLOCK_BYTES) {
    this.#port = port;
    this.#network = network;
    this.blockBytes = blockBytes;
  }

  /** Queues one piece; `onBlock` for each of its blocks as it arrives. */
  send(flow: Flow, index: number, onBlock: (last: boolean) => void): void {
    const sending = { index, leftBytes: PIECE_BYTES, onBlock };
    const queue = this.#queues.get(flow);
    if (queue === undefined) this.#queues.set(flow, [sending]);
    else queue.push(sending);
    this.#pump();
  }

  cancel(flow: Flow, index: number): void {
    const queue = this.#queues.get(flow);
    if (queue === undefined) return;
    const rest = queue.filter((sending) => sending.index !== index);
    if (rest.length === 0) this.#queues.delete(flow);
    else this.#queues.set(flow, rest);
  }

  drop(flow: Flow): void {
    this.#queues.delete(flow);
  }

  /** The node died: nothing leaves any more. */
  die(): void {
    this.#dead = true;
    this.#queues.clear();
  }

  /** It lives again. */
  revive(): void {
    this.#dead = false;
  }

  #pump(): void {
    if (this.#sending || this.#dead) return;
    for (const [flow, queue] of this.#queues) {
      if (flow.unackedBytes + this.blockBytes > WINDOW_BYTES) continue;
      const sending = queue[0]!;
      sending.leftBytes -= this.blockBytes;
      if (sending.leftBytes <= 0) queue.shift();
      // Alone it needs no turn.
      if (queue.length === 0 || this.#queues.size > 1) this.#queues.delete(flow);
      if (queue.length > 0) this.#queues.set(flow, queue);
      this.#transfer(flow, sending, sending.leftBytes <= 0);
      return;
    }
  }

  readonly #sent = (): void => {
    this.#sending = false;
    this.#pump();
  };

  #transfer(flow: Flow, sending: Sending, last: boolean): void {
    this.#sending = true;
    flow.unackedBytes += this.blockBytes;
    this.#network.transfer(this.#port, flow, this.blockBytes, this.#sent, () => {
      flow.unackedBytes -= this.blockBytes;
      this.#pump();
      sending.onBlock(last);
    });
  }
}
