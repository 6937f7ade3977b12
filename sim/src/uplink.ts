import type { VirtualClock } from './clock.ts';
import type { Network } from './network.ts';

/** What the wire's blocks are: uploads to several peers mix block by block. */
export const BLOCK_BYTES = 128 * 1024;
export const BLOCKS = 8;
/** Sent and not yet taken, per connection: what TCP's window and the shell's 1 MiB of socket queue let out. */
const WINDOW_BYTES = 4 * 1024 * 1024;

/** One connection's data in one direction. */
export interface Flow {
  readonly to: string;
  unackedBytes: number;
}

interface Block {
  readonly index: number;
  readonly onArrived: () => void;
}

export function newFlow(to: string): Flow {
  return { to, unackedBytes: 0 };
}

/** What one node sends: one block at a time, its connections in turn, each only while its window is open: fair TCP. */
export class Uplink {
  readonly #name: string;
  readonly #network: Network;
  readonly #clock: VirtualClock;
  /** Connections with something to send, in the order of their turns. */
  readonly #queues = new Map<Flow, Block[]>();
  #sending = false;
  #dead = false;

  constructor(name: string, network: Network, clock: VirtualClock) {
    this.#name = name;
    this.#network = network;
    this.#clock = clock;
  }

  /** Queues one piece; `onBlock` for each of its blocks as it arrives. */
  send(flow: Flow, index: number, onBlock: (last: boolean) => void): void {
    let queue = this.#queues.get(flow);
    if (queue === undefined) {
      queue = [];
      this.#queues.set(flow, queue);
    }
    for (let block = 0; block < BLOCKS; block++)
      queue.push({ index, onArrived: () => onBlock(block === BLOCKS - 1) });
    this.#pump();
  }

  cancel(flow: Flow, index: number): void {
    const queue = this.#queues.get(flow);
    if (queue === undefined) return;
    const rest = queue.filter((block) => block.index !== index);
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

  #pump(): void {
    if (this.#sending || this.#dead) return;
    for (const [flow, queue] of this.#queues) {
      if (flow.unackedBytes + BLOCK_BYTES > WINDOW_BYTES) continue;
      const block = queue.shift()!;
      this.#queues.delete(flow);
      if (queue.length > 0) this.#queues.set(flow, queue);
      this.#transfer(flow, block);
      return;
    }
  }

  #transfer(flow: Flow, block: Block): void {
    this.#sending = true;
    flow.unackedBytes += BLOCK_BYTES;
    const sent = (): void => {
      this.#sending = false;
      this.#pump();
    };
    this.#network.transfer(this.#name, flow.to, BLOCK_BYTES, sent, () => {
      this.#clock.at(this.#clock.nowMs + this.#network.latencyMs, () => {
        flow.unackedBytes -= BLOCK_BYTES;
        this.#pump();
      });
      block.onArrived();
    });
  }
}
