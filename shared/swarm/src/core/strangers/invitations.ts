import { LatestMap } from '@sepia/base/latest-map';
import { banIdOf, strangerId } from './stranger-id.ts';

/** Hosts that are here or dialled at once, and addresses of which it is known when they were dialled. */
const MAX_HOSTS = 16;
const MAX_DIALLED = 512;

/**
 * Which strangers to dial for what they want of us: one of each host at a time, so that nobody makes us knock at all the
 * ports of another. Its addresses take turns, those not dialled yet first: one that is dead keeps no other from its turn.
 */
export class Invitations {
  /** By address, the number of its last dial. */
  readonly #dialled = new LatestMap<string, number>(MAX_DIALLED);
  #dials = 0;

  /** Those of `addresses` (`host:port`) to dial now. `here`: hosts of strangers that have a wire, as `banIdOf` names them. */
  choose(addresses: readonly string[], here: Iterable<string>): string[] {
    const hosts = new Set(here);
    const longestAgo = [...addresses].sort((a, b) => this.#rank(a) - this.#rank(b));
    const chosen = longestAgo.filter((address) => {
      const host = banIdOf(strangerId(address));
      if (hosts.has(host) || hosts.size >= MAX_HOSTS) return false;
      hosts.add(host);
      return true;
    });
    for (const address of chosen) this.#dialled.set(address, ++this.#dials);
    return chosen;
  }

  #rank(address: string): number {
    return this.#dialled.get(address) ?? 0;
  }
}
