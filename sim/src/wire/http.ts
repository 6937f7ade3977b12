import type { Machine } from './machine.ts';
import type { Network } from './network.ts';
import { type Flow, newFlow, PIECE_BYTES } from './uplink.ts';

interface Get {
  readonly index: number;
  readonly flow: Flow;
  readonly onBytes: (bytes: number) => void;
  readonly done: (ok: boolean) => void;
  open: boolean;
  giveUp: (() => void) | undefined;
}

/** An origin's HTTP port: gives any piece by Range once it has it; an origin without the blob passes on what a holder gives. */
export class HttpPort {
  readonly #name: string;
  readonly #network: Network;
  readonly #machine: Machine;
  readonly #has: (index: number) => boolean;
  readonly #holder: () => HttpPort | undefined;
  readonly #wanted: (index: number) => (() => void) | undefined;
  readonly #gets = new Set<Get>();
  readonly #waiting = new Map<number, Get[]>();
  #state: 'serving' | 'stopped' | 'killed' = 'serving';
  /** Pieces asked for over HTTP by members. */
  asked = 0;

  constructor(init: {
    name: string;
    network: Network;
    machine: Machine;
    has: (index: number) => boolean;
    /** Who gives what this origin does not have. */
    holder: () => HttpPort | undefined;
    /** Somebody waits for a piece that is to come here; returns how to take that back. */
    wanted: (index: number) => (() => void) | undefined;
  }) {
    this.#name = init.name;
    this.#network = init.network;
    this.#machine = init.machine;
    this.#has = init.has;
    this.#holder = init.holder;
    this.#wanted = init.wanted;
  }

  /** A GET of one piece. `onBytes` is told of each block as it arrives, `done` once, both never after giving up. Returns how to give up. */
  get(
    client: string,
    index: number,
    done: (ok: boolean) => void,
    onBytes: (bytes: number) => void = () => undefined,
  ): () => void {
    const get: Get = {
      index,
      flow: newFlow(this.#network.port(client)),
      onBytes,
      done,
      open: true,
      giveUp: undefined,
    };
    this.asked += 1;
    this.#network.message(() => this.#serve(get), get.flow.to, this.#machine.port);
    return () => {
      get.open = false;
      this.#gets.delete(get);
      get.giveUp?.();
      this.#network.message(() => this.#machine.uplink.drop(get.flow));
    };
  }

  landed(index: number): void {
    const waiting = this.#waiting.get(index) ?? [];
    this.#waiting.delete(index);
    for (const get of waiting) {
      get.giveUp?.();
      get.giveUp = undefined;
      this.#answer(get);
    }
  }

  fail(kind: 'kill' | 'stop'): void {
    this.#state = kind === 'kill' ? 'killed' : 'stopped';
    if (kind === 'kill') for (const get of this.#gets) this.#end(get, false);
  }

  /** It serves again, and knows nobody who asked before. */
  revive(): void {
    this.#state = 'serving';
    this.#gets.clear();
    this.#waiting.clear();
  }

  #serve(get: Get): void {
    if (!get.open || this.#state === 'stopped') return;
    this.#gets.add(get);
    if (this.#state === 'killed') {
      this.#end(get, false);
      return;
    }
    if (this.#has(get.index)) {
      this.#answer(get);
      return;
    }
    const holder = this.#holder();
    if (holder === undefined || holder === this) {
      this.#waiting.set(get.index, [...(this.#waiting.get(get.index) ?? []), get]);
      get.giveUp = this.#wanted(get.index);
      return;
    }
    get.giveUp = holder.get(this.#name, get.index, (ok) => (ok ? this.#answer(get) : this.#end(get, false)));
  }

  #answer(get: Get): void {
    if (!get.open || this.#state !== 'serving') return;
    this.#machine.sending(PIECE_BYTES, () => {
      if (!get.open) return;
      this.#machine.uplink.send(get.flow, get.index, (last) => {
        if (get.open) get.onBytes(this.#machine.uplink.blockBytes);
        if (last) this.#end(get, true);
      });
    });
  }

  #end(get: Get, ok: boolean): void {
    this.#gets.delete(get);
    if (!get.open) return;
    get.open = false;
    this.#network.message(() => get.done(ok), this.#machine.port, get.flow.to);
  }
}
