import { digestHash } from '@sepia/cluster/api/set-hash';
import type { KnownPeer } from '@sepia/swarm/core/events';
import { rejoinMs } from '@sepia/tracker/swarms/core/pace';
import { SwarmTable } from '@sepia/tracker/swarms/core/swarm-table';
import type { Stage } from './blob-swarm.ts';

/** Peers that one answer names, beside the origins. */
const NUMWANT = 50;
/** Longer than any run. */
const LEASE_MS = 3_600_000;
/** Who has no answer after this asks the next tracker. */
const SILENT_MS = 1_000;

/** What a tracker says to a join. */
export interface JoinAnswer {
  readonly peers: readonly KnownPeer[];
  /** When to join again while pieces are lacking. */
  readonly intervalMs: number;
}

/** One tracker process: the table that ships, one call after the other, each takes it `callMs`. */
class SimTracker {
  state: 'up' | 'killed' | 'stopped' = 'up';
  readonly #stage: Stage;
  readonly #callMs: number;
  readonly #table: SwarmTable;
  #freeMs = 0;

  constructor(stage: Stage, callMs: number) {
    this.#stage = stage;
    this.#callMs = callMs;
    this.#table = new SwarmTable(() => stage.chance.next(), digestHash);
  }

  /** Runs at the tracker; `told` there too, when it is this call's turn. */
  join(blob: string, asker: KnownPeer, leeching: boolean, told: (answer: JoinAnswer) => void): void {
    const { clock } = this.#stage;
    this.#freeMs = Math.max(this.#freeMs, clock.nowMs) + this.#callMs;
    clock.at(this.#freeMs, () => {
      const facts = { nodeId: asker.peerId, addresses: asker.addresses, zone: asker.zone };
      this.#table.join(facts, blob, leeching, LEASE_MS, clock.nowMs);
      const peers = this.#table
        .handout(blob, facts, NUMWANT)
        .map(({ nodeId, addresses, zone = '' }) => ({ peerId: nodeId, addresses, origin: false, zone }));
      told({ peers, intervalMs: rejoinMs(this.#table.leecherCount(blob)) });
    });
  }
}

/** The trackers of a run: blobs are theirs in turn; where one does not answer, the next is asked. */
export class Trackers {
  readonly #stage: Stage;
  readonly #all: readonly SimTracker[];

  constructor(stage: Stage, options: { readonly count: number; readonly callMs: number }) {
    this.#stage = stage;
    this.#all = Array.from({ length: options.count }, () => new SimTracker(stage, options.callMs));
  }

  /** The tracker of the first blob dies, or answers no more. */
  fail(kind: 'killed' | 'stopped'): void {
    this.#all[0]!.state = kind;
  }

  /** `asker` joins the swarm of the blob with this number; `told` runs there, unless no tracker answers. */
  join(
    blob: number,
    asker: KnownPeer,
    leeching: boolean,
    told: (answer: JoinAnswer) => void,
    tried = 0,
  ): void {
    const { clock, network } = this.#stage;
    if (tried === this.#all.length) return;
    const tracker = this.#all[(blob + tried) % this.#all.length]!;
    const next = (): void => this.join(blob, asker, leeching, told, tried + 1);
    network.message(() => {
      if (tracker.state === 'killed') network.message(next);
      else if (tracker.state === 'stopped') clock.at(clock.nowMs + SILENT_MS, next);
      else
        tracker.join(`blob ${blob}`, asker, leeching, (answer) => {
          if (tracker.state === 'up') network.message(() => told(answer));
        });
    });
  }
}
