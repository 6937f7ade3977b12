import type { Chance } from '@sepia/swarm/core/random';
import { KRAKEN_LIMITS } from './kraken-limits.ts';
import type { KrakenPeer } from './kraken-peer.ts';

/** Kraken's tracker: who announced, and whom it hands out. It is never slow here and never lost. */
export class KrakenTracker {
  readonly #origins: readonly KrakenPeer[];
  readonly #chance: Chance;
  readonly #agents: KrakenPeer[] = [];

  constructor(origins: readonly KrakenPeer[], chance: Chance) {
    this.#origins = origins;
    this.#chance = chance;
  }

  /** Policy `completeness`: finished agents, then origins, then unfinished agents. Who has all gets nobody. */
  announce(asker: KrakenPeer): readonly KrakenPeer[] {
    if (!asker.isKnown) this.#agents.push(asker);
    asker.isKnown = true;
    if (asker.complete) return [];
    const agents = this.#sample().filter((one) => one !== asker);
    return [
      ...agents.filter((one) => one.complete),
      ...this.#origins,
      ...agents.filter((one) => !one.complete),
    ];
  }

  #sample(): KrakenPeer[] {
    const all = this.#agents;
    const take = Math.min(KRAKEN_LIMITS.handout, all.length);
    for (let at = 0; at < take; at++) {
      const other = at + this.#chance.below(all.length - at);
      [all[at], all[other]] = [all[other]!, all[at]!];
    }
    return all.slice(0, take);
  }
}
