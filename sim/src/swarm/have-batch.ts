import type { LinkId } from '@sepia/swarm/core/events';
import type { VirtualClock } from '../wire/clock.ts';
import type { Network, Port } from '../wire/network.ts';
import type { Wire } from './node-wire.ts';

/** Of each link its place among the wires of the batch that is just sent; −1: none. All nodes use it in turn. */
const PLACES: number[] = [];
/** HAVEs that follow one are collected this long, as the shell does. */
const HAVE_BATCH_MS = 20;

/** What a wire is to be told, in order; wires that are to be told the same share it. */
class Words {
  readonly indexes: readonly number[];
  /** What it is with one index more, which is the `#last`. */
  #more: Words | undefined;
  #last = -1;

  constructor(indexes: readonly number[]) {
    this.indexes = indexes;
  }

  and(index: number): Words {
    if (this.#last !== index || this.#more === undefined) {
      this.#last = index;
      this.#more = new Words([...this.indexes, index]);
    }
    return this.#more;
  }
}

/** What a node says of its pieces: the first at once, those that follow collected for a while, over all its wires at once. */
export class HaveBatch {
  readonly #clock: VirtualClock;
  readonly #network: Network;
  readonly #port: Port;
  readonly #isAlive: () => boolean;
  readonly #wireOf: (link: LinkId) => Wire | undefined;
  /** Links and what is to be said there, in turn: of each index −1 − it, then the links. */
  #words: number[] = [];
  #index = -1;
  #nextMs = 0;

  constructor(init: {
    clock: VirtualClock;
    network: Network;
    port: Port;
    isAlive: () => boolean;
    wireOf: (link: LinkId) => Wire | undefined;
  }) {
    this.#clock = init.clock;
    this.#network = init.network;
    this.#port = init.port;
    this.#isAlive = init.isAlive;
    this.#wireOf = init.wireOf;
  }

  add(link: LinkId, index: number): void {
    if (this.#words.length === 0) this.#clock.at(Math.max(this.#clock.nowMs, this.#nextMs), this.#send);
    if (this.#index !== index) this.#words.push(-1 - index);
    this.#index = index;
    this.#words.push(link);
  }

  readonly #send = (): void => {
    this.#nextMs = this.#clock.nowMs + HAVE_BATCH_MS;
    const said = this.#words;
    this.#words = [];
    this.#index = -1;
    if (!this.#isAlive()) return;
    const { wires, words } = this.#byWire(said);
    const network = this.#network;
    if (network.isParted) {
      this.#sendAcross(wires, words);
      return;
    }
    network.message(() => {
      for (let at = 0; at < wires.length; at++) arrive(wires[at]!, words[at]!.indexes);
    });
  };

  /** What is to be said over each wire that is still open, in the order in which they came to have something to say. */
  #byWire(said: readonly number[]): { wires: Wire[]; words: Words[] } {
    const wires: Wire[] = [];
    const words: Words[] = [];
    const none = new Words([]);
    let index = -1;
    for (const one of said) {
      if (one < 0) {
        index = -1 - one;
        continue;
      }
      const at = PLACES[one] ?? -1;
      if (at >= 0) {
        words[at] = words[at]!.and(index);
        continue;
      }
      const wire = this.#wireOf(one);
      if (wire === undefined) continue;
      PLACES[one] = wires.length;
      wires.push(wire);
      words.push(none.and(index));
    }
    for (const one of said) if (one >= 0) PLACES[one] = -1;
    return { wires, words };
  }

  /** Some are behind a cut: theirs come when it heals. */
  #sendAcross(wires: readonly Wire[], words: readonly Words[]): void {
    const port = this.#port;
    const network = this.#network;
    const held = wires.map((wire) => network.isCut(port, wire.flow.to));
    network.message(() => {
      for (const [at, wire] of wires.entries()) if (held[at] !== true) arrive(wire, words[at]!.indexes);
    });
    for (const [at, wire] of wires.entries())
      if (held[at] === true) network.message(() => arrive(wire, words[at]!.indexes), port, wire.flow.to);
  }
}

function arrive({ back, node, link }: Wire, indexes: readonly number[]): void {
  if (back?.isOpen === true) node.tell({ type: 'haves', link, indexes });
}
