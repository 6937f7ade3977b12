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
  /** What waits to be sent; while it is not empty the flow has a turn. */
  queue: Sending[];
  /** Who has its turn before and after. */
  before: Flow | undefined;
  after: Flow | undefined;
}

/** One piece that is being sent: its blocks leave one after the other. */
interface Sending {
  readonly index: number;
  leftBytes: number;
  readonly onBlock: (last: boolean) => void;
}

export function newFlow(to: Port): Flow {
  return { to, arrivedMs: 0, unackedBytes: 0, queue: [], before: undefined, after: undefined };
}

/** What one node sends: one block at a time, its connections in turn, each only while its window is open: fair TCP. */
export class Uplink {
  readonly blockBytes: number;
  readonly #port: Port;
  readonly #network: Network;
  /** Connections with something to send, in the order of their turns: the first and the last of a chain. */
  #first: Flow | undefined;
  #last: Flow | undefined;
  #sending = false;
  #dead = false;

  constructor(port: Port, network: Network, blockBytes: number = BLOCK_BYTES) {
    this.#port = port;
    this.#network = network;
    this.blockBytes = blockBytes;
  }

  /** Queues one piece; `onBlock` for each of its blocks as it arrives. */
  send(flow: Flow, index: number, onBlock: (last: boolean) => void): void {
    flow.queue.push({ index, leftBytes: PIECE_BYTES, onBlock });
    if (flow.queue.length === 1) this.#append(flow);
    this.#pump();
  }

  cancel(flow: Flow, index: number): void {
    if (flow.queue.length === 0) return;
    flow.queue = flow.queue.filter((sending) => sending.index !== index);
    if (flow.queue.length === 0) this.#remove(flow);
  }

  drop(flow: Flow): void {
    if (flow.queue.length === 0) return;
    flow.queue = [];
    this.#remove(flow);
  }

  /** The node died: nothing leaves any more. */
  die(): void {
    this.#dead = true;
    while (this.#first !== undefined) this.drop(this.#first);
  }

  /** It lives again. */
  revive(): void {
    this.#dead = false;
  }

  #pump(): void {
    if (this.#sending || this.#dead) return;
    for (let flow = this.#first; flow !== undefined; flow = flow.after) {
      if (flow.unackedBytes + this.blockBytes > WINDOW_BYTES) continue;
      const sending = flow.queue[0]!;
      sending.leftBytes -= this.blockBytes;
      const isLast = sending.leftBytes <= 0;
      if (isLast) flow.queue.shift();
      // The others have their turns before it has the next.
      if (flow.queue.length === 0 || flow !== this.#last) this.#remove(flow);
      if (flow.queue.length > 0 && flow !== this.#last) this.#append(flow);
      this.#transfer(flow, sending, isLast);
      return;
    }
  }

  #append(flow: Flow): void {
    flow.before = this.#last;
    if (this.#last === undefined) this.#first = flow;
    else this.#last.after = flow;
    this.#last = flow;
  }

  #remove(flow: Flow): void {
    if (flow.before === undefined) this.#first = flow.after;
    else flow.before.after = flow.after;
    if (flow.after === undefined) this.#last = flow.before;
    else flow.after.before = flow.before;
    flow.before = undefined;
    flow.after = undefined;
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
