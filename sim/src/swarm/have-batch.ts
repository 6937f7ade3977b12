import type { VirtualClock } from '../wire/clock.ts';
import type { Network, Port } from '../wire/network.ts';
import type { Wire } from './node-wire.ts';

/** HAVEs that follow one are collected this long, as the shell does. */
const HAVE_BATCH_MS = 20;

/** What a node says of its pieces: the first at once, those that follow collected for a while, over all its wires at once. */
export class HaveBatch {
  readonly #clock: VirtualClock;
  readonly #network: Network;
  readonly #port: Port;
  readonly #isAlive: () => boolean;
  /** Wires with something to say, in the order in which they came to have it. */
  #wires: Wire[] = [];
  #nextMs = 0;

  constructor(init: { clock: VirtualClock; network: Network; port: Port; isAlive: () => boolean }) {
    this.#clock = init.clock;
    this.#network = init.network;
    this.#port = init.port;
    this.#isAlive = init.isAlive;
  }

  add(wire: Wire, index: number): void {
    if (wire.haves.push(index) > 1) return;
    if (this.#wires.push(wire) > 1) return;
    this.#clock.at(Math.max(this.#clock.nowMs, this.#nextMs), this.#send);
  }

  readonly #send = (): void => {
    this.#nextMs = this.#clock.nowMs + HAVE_BATCH_MS;
    const network = this.#network;
    const wires = this.#wires;
    const haves: number[][] = [];
    let open = 0;
    for (const wire of wires) {
      const indexes = wire.haves;
      wire.haves = [];
      if (!wire.isOpen) continue;
      wires[open] = wire;
      haves[open] = indexes;
      open += 1;
    }
    wires.length = open;
    this.#wires = [];
    if (!this.#isAlive()) return;
    if (network.isParted) {
      this.#sendAcross(wires, haves);
      return;
    }
    network.message(() => {
      for (let at = 0; at < open; at++) arrive(wires[at]!, haves[at]!);
    });
  };

  /** Some are behind a cut: theirs come when it heals. */
  #sendAcross(wires: readonly Wire[], haves: readonly number[][]): void {
    const port = this.#port;
    const network = this.#network;
    const held = wires.map((wire) => network.isCut(port, wire.flow.to));
    network.message(() => {
      for (const [at, wire] of wires.entries()) if (held[at] !== true) arrive(wire, haves[at]!);
    });
    for (const [at, wire] of wires.entries())
      if (held[at] === true) network.message(() => arrive(wire, haves[at]!), port, wire.flow.to);
  }
}

function arrive({ back, node, link }: Wire, indexes: readonly number[]): void {
  if (back?.isOpen === true) node.tell({ type: 'haves', link, indexes });
}
