import type { Chance } from '@sepia/swarm/core/random';
import type { VirtualClock } from '../wire/clock.ts';
import type { Machine } from '../wire/machine.ts';
import type { Network } from '../wire/network.ts';
import { type Flow, newFlow, Uplink } from '../wire/uplink.ts';

/** Pieces of one answer that are on their way at once. */
const AHEAD = 2;

/** A registry that the origins fetch from. */
export interface UpstreamPlan {
  readonly rateBytesPerSec: number;
  /** From a request until its answer begins. Default 0. */
  readonly thinkMs?: number;
  /** Default true; else each answer is the whole blob. */
  readonly ranges?: boolean;
  /** Share of pieces after which a connection is cut. Default 0. */
  readonly cuts?: number;
}

/** What a fetch hears of one connection. */
export interface Answers {
  /** Its headers: the first piece that it brings. */
  readonly answered: (first: number) => void;
  /** A whole piece; false: no more of this connection. */
  readonly piece: (index: number) => boolean;
  /** It brought all that was asked for, or (`wasCut`) broke off. */
  readonly ended: (wasCut: boolean) => void;
}

/** The registry behind: one line, connections in turn, pieces in order. */
export class Upstream {
  /** Pieces that left it whole. */
  sentPieces = 0;
  readonly #plan: UpstreamPlan;
  readonly #clock: VirtualClock;
  readonly #network: Network;
  readonly #uplink: Uplink;
  readonly #chance: Chance;

  constructor(
    deps: { readonly clock: VirtualClock; readonly network: Network; readonly chance: Chance },
    plan: UpstreamPlan,
    blockBytes: number,
    /** Of its line. */
    name = 'upstream',
  ) {
    const { clock, network, chance } = deps;
    this.#plan = plan;
    this.#clock = clock;
    this.#network = network;
    this.#chance = chance;
    network.add(name, plan.rateBytesPerSec, plan.rateBytesPerSec);
    this.#uplink = new Uplink(network.port(name), network, blockBytes);
  }

  /** A GET of pieces `start` … `end` − 1 of a blob with so many. Returns how to close it. */
  get(to: Machine, range: { start: number; end: number; pieces: number }, answers: Answers): () => void {
    const { thinkMs = 0, ranges = true } = this.#plan;
    const { start, end } = ranges ? range : { start: 0, end: range.pieces };
    const flow = newFlow(to.port);
    let isOpen = true;
    const close = (): void => {
      isOpen = false;
      this.#uplink.drop(flow);
    };
    this.#network.message(() => {
      this.#clock.at(this.#clock.nowMs + thinkMs, () => {
        if (!isOpen) return;
        this.#network.message(() => {
          if (isOpen) answers.answered(start);
        });
        this.#send(flow, { at: start, end }, answers, () => isOpen, close);
      });
    });
    return close;
  }

  #send(
    flow: Flow,
    { at, end }: { readonly at: number; readonly end: number },
    answers: Answers,
    isOpen: () => boolean,
    close: () => void,
  ): void {
    let next = at;
    const queue = (): void => {
      if (next >= end) return;
      const index = next++;
      this.#uplink.send(flow, index, (last) => {
        if (last && isOpen()) taken(index);
      });
    };
    const taken = (index: number): void => {
      this.sentPieces += 1;
      const goesOn = answers.piece(index);
      if (!isOpen()) return;
      const wasCut = this.#chance.next() < (this.#plan.cuts ?? 0);
      if (goesOn && !wasCut && index + 1 < end) {
        queue();
        return;
      }
      close();
      answers.ended(wasCut);
    };
    for (let ahead = 0; ahead < AHEAD; ahead++) queue();
  }
}
