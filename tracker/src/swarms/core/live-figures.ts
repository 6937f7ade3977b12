import { Bitfield } from '@sepia/base/bitfield';
import { LatestMap } from '@sepia/base/latest-map';
import type { LeaseRequest } from '@sepia/cluster/api/lease';
import { ENDED_SHOWN_MS } from '../../deadlines.ts';

/** What a node last told of a running swarm; for people who look, never for decisions. */
export interface SwarmFigures {
  readonly digest: string;
  readonly pieces: number;
  /** Bitfield in hex. */
  readonly have: string;
  readonly peerBytes: number;
  readonly originBytes: number;
}

/** What a node told of a swarm last, before it left it or had all. */
interface EndedFigures extends Omit<SwarmFigures, 'have'> {
  /** Number of pieces. */
  readonly have: number;
  readonly endedAtMs: number;
}

/** A row of a swarm: a node that runs it, or one that did a while ago. */
export type ShownFigures =
  | (SwarmFigures & { readonly nodeId: string })
  | (Omit<EndedFigures, 'endedAtMs'> & { readonly nodeId: string; readonly endedSeconds: number });

type Self = NonNullable<LeaseRequest['self']>;

const MAX_NODES = 2_000;
/** Blobs, and nodes of each, whose last figures are kept: as many as a page shows. */
const MAX_ENDED = 24;
const MAX_ENDED_NODES = 128;

/**
 * Last figures by node, of those that run a swarm; the oldest node is dropped beyond a limit. What a node told of a swarm
 * that it runs no more is kept for {@link ENDED_SHOWN_MS}, so that who looks after a pull sees it.
 */
export class LiveFigures {
  readonly #byNode = new LatestMap<string, readonly SwarmFigures[]>(MAX_NODES);
  readonly #selves = new LatestMap<string, Self>(MAX_NODES);
  readonly #ended = new LatestMap<string, LatestMap<string, EndedFigures>>(MAX_ENDED);

  /** `self`: what the node says of itself, if it does. */
  note(nodeId: string, figures: readonly SwarmFigures[], nowMs: number, self?: Self): void {
    if (self !== undefined) this.#selves.set(nodeId, self);
    for (const one of this.#byNode.get(nodeId) ?? [])
      if (!figures.some(({ digest }) => digest === one.digest)) this.#end(nodeId, one, nowMs);
    if (figures.length === 0) this.#byNode.delete(nodeId);
    else this.#byNode.set(nodeId, figures);
  }

  /** The node is gone; what ended before is shown for its time. */
  forget(nodeId: string): void {
    this.#byNode.delete(nodeId);
    this.#selves.delete(nodeId);
  }

  /** What a node said last of itself. */
  selfOf(nodeId: string): Self | undefined {
    return this.#selves.get(nodeId);
  }

  /** Nodes that run the swarm first. */
  of(digest: string, nowMs: number): ShownFigures[] {
    const found: ShownFigures[] = [];
    for (const [nodeId, all] of this.#byNode) {
      for (const one of all) if (one.digest === digest) found.push({ nodeId, ...one });
    }
    const running = new Set(found.map(({ nodeId }) => nodeId));
    for (const [nodeId, { endedAtMs, ...figures }] of this.#ended.get(digest) ?? []) {
      const endedMs = nowMs - endedAtMs;
      if (endedMs >= ENDED_SHOWN_MS || running.has(nodeId)) continue;
      found.push({ nodeId, ...figures, endedSeconds: Math.round(endedMs / 1_000) });
    }
    return found;
  }

  #end(nodeId: string, { have, ...figures }: SwarmFigures, nowMs: number): void {
    const { digest } = figures;
    const nodes = this.#ended.get(digest) ?? new LatestMap<string, EndedFigures>(MAX_ENDED_NODES);
    const { count } = new Bitfield(have.length * 4, Buffer.from(have, 'hex'));
    nodes.set(nodeId, { ...figures, have: count, endedAtMs: nowMs });
    this.#ended.set(digest, nodes);
  }
}
