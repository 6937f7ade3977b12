import { digestHash } from '@sepia/cluster/api/set-hash';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import type { KnownPeer } from '@sepia/swarm/core/events';
import { rejoinMs } from '@sepia/tracker/swarms/core/pace';
import { SwarmTable } from '@sepia/tracker/swarms/core/swarm-table';
import { call, type Life } from '../wire/call.ts';
import type { Port } from '../wire/network.ts';
import type { Stage } from '../wire/stage.ts';
import { type BlobOrigins, copyOf, SimKeeper } from './keeper.ts';

/** Peers that one answer names, beside the origins. */
const NUMWANT = 50;
/** Longer than any run. */
const LEASE_MS = 3_600_000;
/** Who has no answer of a tracker that hangs after this asks the next; of one that thinks after the longer time, ms. */
const SILENT_MS = 1_000;
const LOCATE_MS = 10_000;
/** So long a member waits for hashes at a time, ms. */
const NEWS_MS = 5_000;
/** Pause before trackers are asked again, none of which knew an origin. */
const AGAIN_MS = 1_000;

/** What a tracker says to a join. */
export interface JoinAnswer {
  readonly peers: readonly KnownPeer[];
  /** When to join again while pieces are lacking. */
  readonly intervalMs: number;
  /** Of a blob that comes from a registry: what is known of it. */
  readonly metainfo?: Metainfo;
}

/** One tracker process: the table that ships, one call after the other, each takes it `callMs`. */
class SimTracker {
  life: Life = 'up';
  readonly keeper: SimKeeper;
  readonly #stage: Stage;
  readonly #callMs: number;
  readonly #table: SwarmTable;
  #freeMs = 0;

  constructor(stage: Stage, callMs: number) {
    this.#stage = stage;
    this.#callMs = callMs;
    this.#table = new SwarmTable(() => stage.chance.next(), digestHash);
    this.keeper = new SimKeeper({
      clock: stage.clock,
      network: stage.network,
      isUp: () => this.life === 'up',
      holders: ({ digest }) => this.#handout(digest, { nodeId: '', addresses: [], zone: '' }),
    });
  }

  /** Runs at the tracker; `told` there too, when it is this call's turn: nothing where the blob has no origin that answers. */
  join(
    blob: string,
    origins: BlobOrigins | undefined,
    asker: KnownPeer,
    leeching: boolean,
    told: (answer: JoinAnswer | undefined) => void,
  ): void {
    const { clock } = this.#stage;
    this.#freeMs = Math.max(this.#freeMs, clock.nowMs) + this.#callMs;
    clock.at(this.#freeMs, () => {
      const facts = { nodeId: asker.peerId, addresses: asker.addresses, zone: asker.zone };
      this.#table.join(facts, blob, leeching, LEASE_MS, clock.nowMs);
      const answer = (named: readonly KnownPeer[] = [], metainfo?: Metainfo): void =>
        told({
          peers: [...named, ...this.#handout(blob, facts)],
          intervalMs: rejoinMs(this.#table.leecherCount(blob)),
          ...(metainfo === undefined ? {} : { metainfo: copyOf(metainfo) }),
        });
      if (origins === undefined) {
        answer();
        return;
      }
      this.keeper.get(origins, (entry) => {
        if (entry === undefined) told(undefined);
        else answer(entry.originIds.map(origins.peer), entry.metainfo);
      });
    });
  }

  #handout(blob: string, facts: { nodeId: string; addresses: readonly string[]; zone: string }): KnownPeer[] {
    return this.#table
      .handout(blob, facts, NUMWANT)
      .map(({ nodeId, addresses, zone = '' }) => ({ peerId: nodeId, addresses, origin: false, zone }));
  }
}

/** The trackers of a run: blobs are theirs in turn; where one does not answer, the next is asked. */
export class Trackers {
  readonly #stage: Stage;
  readonly #all: readonly SimTracker[];
  readonly #origins = new Map<number, BlobOrigins>();

  constructor(stage: Stage, options: { readonly count: number; readonly callMs: number }) {
    this.#stage = stage;
    this.#all = Array.from({ length: options.count }, () => new SimTracker(stage, options.callMs));
  }

  /** The blob with this number comes from a registry, by these origins. */
  located(blob: number, origins: BlobOrigins): void {
    this.#origins.set(blob, origins);
  }

  /** The tracker of the first blob dies, or answers no more. */
  fail(kind: 'killed' | 'stopped'): void {
    this.#all[0]!.life = kind;
  }

  /** `asker` joins the swarm of the blob with this number; `told` runs there, unless no tracker answers. */
  join(blob: number, asker: KnownPeer, leeching: boolean, told: (answer: JoinAnswer) => void): void {
    const origins = this.#origins.get(blob);
    this.#ask<JoinAnswer | undefined>(
      blob,
      { timeoutMs: LOCATE_MS },
      (tracker, reply) => tracker.join(key(blob, origins), origins, asker, leeching, reply),
      (answer) => {
        if (answer !== undefined) told(answer);
        if (answer !== undefined || origins === undefined) return;
        const { clock } = this.#stage;
        clock.at(clock.nowMs + AGAIN_MS, () => this.join(blob, asker, leeching, told));
      },
    );
  }

  /** A member at `from` that knows `etag` waits for more hashes; `told` nothing where there were none, or nobody says. */
  news(blob: number, from: Port, etag: string, told: (metainfo: Metainfo | undefined) => void): void {
    const origins = this.#origins.get(blob)!;
    this.#ask<Metainfo | undefined>(
      blob,
      { from, timeoutMs: NEWS_MS + SILENT_MS },
      (tracker, reply) =>
        tracker.keeper.wait(origins, etag, NEWS_MS, (metainfo) =>
          reply(metainfo === undefined || metainfo.etag === etag ? undefined : copyOf(metainfo)),
        ),
      told,
    );
  }

  /** Asks one tracker after the other until one answers. */
  #ask<T>(
    blob: number,
    how: { readonly from?: Port; readonly timeoutMs: number },
    run: (tracker: SimTracker, reply: (answer: T) => void) => void,
    told: (answer: T | undefined) => void,
    tried = 0,
  ): void {
    const tracker = this.#all[(blob + tried) % this.#all.length]!;
    const timeoutMs = tracker.life === 'stopped' ? SILENT_MS : how.timeoutMs;
    call<T>(
      this.#stage,
      { ...how, timeoutMs, life: () => tracker.life },
      (reply) => run(tracker, reply),
      (outcome) => {
        if (outcome.type === 'answer') told(outcome.answer);
        else if (tried + 1 === this.#all.length) told(undefined);
        else this.#ask(blob, how, run, told, tried + 1);
      },
    );
  }
}

function key(blob: number, origins: BlobOrigins | undefined): string {
  return origins?.name.digest ?? `blob ${blob}`;
}
