import { LatestMap } from '@sepia/base/latest-map';

/** What a node last told of a running swarm; for people who look, never for decisions. */
export interface SwarmFigures {
  readonly digest: string;
  readonly pieces: number;
  /** Bitfield in hex. */
  readonly have: string;
  readonly peerBytes: number;
  readonly originBytes: number;
}

const MAX_NODES = 2_000;

/** Last figures by node, of those that run a swarm; the oldest node is dropped beyond a limit. */
export class LiveFigures {
  readonly #byNode = new LatestMap<string, readonly SwarmFigures[]>(MAX_NODES);

  note(nodeId: string, figures: readonly SwarmFigures[]): void {
    if (figures.length === 0) this.#byNode.delete(nodeId);
    else this.#byNode.set(nodeId, figures);
  }

  forget(nodeId: string): void {
    this.#byNode.delete(nodeId);
  }

  of(digest: string): (SwarmFigures & { nodeId: string })[] {
    const found: (SwarmFigures & { nodeId: string })[] = [];
    for (const [nodeId, all] of this.#byNode) {
      for (const one of all) if (one.digest === digest) found.push({ nodeId, ...one });
    }
    return found;
  }
}
