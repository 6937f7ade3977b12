import type { KnownPeer } from '@sepia/swarm/core/events';
import type { Chance } from '@sepia/swarm/core/random';
import type { VirtualClock } from './clock.ts';
import type { Network } from './network.ts';

/** Peers that one answer names, beside the origins. */
const HANDED_OUT = 50;

/** One blob's tracker: who joined so far, and whom it hands out. Swarms that have the same tracker wait for each other there. */
export class SwarmTracker {
  readonly #turn: TrackerTurn;
  readonly #origins: readonly KnownPeer[];
  readonly #chance: Chance;
  readonly #joined: KnownPeer[] = [];

  constructor(turn: TrackerTurn, origins: readonly KnownPeer[], chance: Chance) {
    this.#turn = turn;
    this.#origins = origins;
    this.#chance = chance;
  }

  /** A call of `asker`, who is a peer from its first one on; `told` runs there when the answer is there. */
  ask(asker: KnownPeer, told: (peers: readonly KnownPeer[]) => void): void {
    this.#turn.call(() => {
      const peers = [...this.#origins, ...this.#some().filter(({ peerId }) => peerId !== asker.peerId)];
      if (!asker.origin && !this.#joined.includes(asker)) this.#joined.push(asker);
      return () => told(peers);
    });
  }

  /** Joined ones by lot. */
  #some(): KnownPeer[] {
    if (this.#joined.length <= HANDED_OUT) return [...this.#joined];
    const drawn = new Set<KnownPeer>();
    while (drawn.size < HANDED_OUT) drawn.add(this.#joined[this.#chance.below(this.#joined.length)]!);
    return [...drawn];
  }
}

/** One tracker process: it answers one call after the other, each takes it `callMs`. */
export class TrackerTurn {
  readonly #clock: VirtualClock;
  readonly #network: Network;
  readonly #callMs: number;
  #freeMs = 0;

  constructor(clock: VirtualClock, network: Network, callMs: number) {
    this.#clock = clock;
    this.#network = network;
    this.#callMs = callMs;
  }

  /** `answer` runs at the tracker when it is its turn; what it returns runs at the caller. */
  call(answer: () => () => void): void {
    this.#network.message(() => {
      this.#freeMs = Math.max(this.#freeMs, this.#clock.nowMs) + this.#callMs;
      this.#clock.at(this.#freeMs, () => this.#network.message(answer()));
    });
  }
}
