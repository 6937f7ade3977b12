import type { CoreLimits } from '@sepia/swarm/core/limits';
import { Chance } from '@sepia/swarm/core/random';
import { BlobSwarm, type Stage } from './blob-swarm.ts';
import { VirtualClock } from './clock.ts';
import { Trackers } from './control/trackers.ts';
import { Upstream, type UpstreamPlan } from './control/upstream.ts';
import { type CpuCost, Machine } from './machine.ts';
import { DEFAULT_LATENCY_MS, DEFAULT_START_MS, Network } from './network.ts';
import type { SimNode } from './node.ts';
import { TraceHash } from './trace.ts';
import { BLOCK_BYTES, PIECE_BYTES } from './uplink.ts';

/**
 * What goes wrong at `atMs`: a node dies (no word to anybody who listens), stops for good, or sends bad pieces from then on; one
 * crashes and comes back `backMs` later with what was on its disk for good; the first blob's tracker dies; some nodes and the rest do not reach each other for a while; of all blocks a share is lost and sent again.
 */
export type Fault = { readonly atMs: number } & (
  | { readonly kind: 'kill' | 'stop' | 'corrupt'; readonly node: string }
  | { readonly kind: 'crash'; readonly node: string; readonly backMs: number }
  | { readonly kind: 'tracker' }
  | { readonly kind: 'partition'; readonly nodes: readonly string[]; readonly untilMs: number }
  | { readonly kind: 'loss'; readonly share: number }
);

export interface SimulateOptions {
  /** Members that download. Named `a0` …; origins are `o0` …. */
  readonly nodes: number;
  readonly origins?: number;
  /** Of one blob, or of each of several that all members pull at once over the same lines. */
  readonly pieces: number | readonly number[];
  /** Each way, per node. */
  readonly rateBytesPerSec?: number;
  readonly originRateBytesPerSec?: number;
  readonly latencyMs?: number;
  /** How long the stretches are in which uploads to several peers mix; a part of 1 MiB. Default 128 KiB, as on the wire. */
  readonly blockBytes?: number;
  /** Piece i lands at the origins at i × this; 0: they have all. */
  readonly landEveryMs?: number;
  /** No origin has it: who leads fetches it from this registry, trackers follow it, members hear of its hashes from them. */
  readonly upstream?: UpstreamPlan;
  /** Which origins have the blob from the start, whatever `landEveryMs` says. */
  readonly fullOrigins?: readonly number[];
  /** Without the blob from the start: these pass on over HTTP what another origin has, and are no peers. */
  readonly emptyOrigins?: readonly number[];
  /** Hashes of landed pieces reach the members after this. */
  readonly newsMs?: number;
  /** Whether members have an HTTP source at each origin, as agents do. Default true. */
  readonly http?: boolean;
  /** From dial to proven wire, beyond one latency. */
  readonly dialMs?: number;
  /** Members' zones, in turn; origins are in the first. Default 1. */
  readonly zones?: number;
  /** Members start within this. */
  readonly startMs?: number;
  /** Trackers that members ask for each other, blobs in turn, and what a call takes one of them; default: all know all for nothing. */
  readonly trackers?: { readonly count: number; readonly callMs: number };
  /** Default: it costs no time. */
  readonly cpu?: CpuCost;
  /** This share of the members has a line of so much of the rate. */
  readonly slow?: { readonly share: number; readonly rate: number };
  readonly readers?: boolean;
  readonly faults?: readonly Fault[];
  readonly seed: number;
  readonly untilMs?: number;
  readonly limits?: Partial<CoreLimits>;
  /** Looks after each event whether what must always hold of a node holds: slow, for tests. */
  readonly checked?: boolean;
}

export interface Result {
  /** Node → ms at which it had all pieces of all blobs; missing if it never had. */
  readonly finishedMs: ReadonlyMap<string, number>;
  readonly lastMs: number;
  /** Copies of the blobs that left the origins. */
  readonly originCopies: number;
  /** Copies that left the registry behind, if there is one. */
  readonly upstreamCopies: number;
  /** Pieces that an origin took from it though it had them. */
  readonly twice: number;
  /** Of the origins' copies those over HTTP. */
  readonly httpCopies: number;
  /** Pieces' worth of bytes that arrived though their node had them or took the request back: hedges and endgame. */
  readonly duplicates: number;
  /** Of the bytes that members took over wires, the share from other zones. */
  readonly farShare: number;
  /** The longest that a reader stood before one piece whose hash was known. */
  readonly readerWaitMs: number;
  /** Of the time until a member had all, the share after which half of the stream had reached its reader: the largest. */
  readonly readerHalfShare: number;
  readonly badPieces: number;
  readonly effects: number;
  /** Of all effects with node and time, in order: equal seeds give equal hashes. */
  readonly traceHash: string;
}

/** How far a run is. */
export interface SimulateProgress {
  /** On the virtual clock. */
  readonly atMs: number;
  /** Members, once for each blob, that have not all of it. */
  readonly busy: number;
}

/** Where a blob comes from a registry, and nothing is said of trackers. */
const DEFAULT_TRACKERS = { count: 2, callMs: 0.1 };
/** Steps between two words on how far it is. */
const STEPS_A_WORD = 2 ** 17;

/** Runs the cores of `shared/swarm/src/core` on a virtual clock and network until all finished or `untilMs`. */
export function simulate(options: SimulateOptions, tell?: (progress: SimulateProgress) => void): Result {
  const world = new World(options);
  world.start();
  world.run(tell);
  return world.summary();
}

/** All nodes and blobs of one run, on one clock. */
class World {
  readonly #options: SimulateOptions;
  readonly #clock = new VirtualClock();
  readonly #trace = new TraceHash();
  readonly #network: Network;
  readonly #chance: Chance;
  readonly #machines = new Map<string, Machine>();
  readonly #pieces: readonly number[];
  readonly #swarms: readonly BlobSwarm[];
  readonly #upstream: Upstream | undefined;
  readonly #stage: Stage;
  /** Members, once for each blob, that live and have not all of it. */
  #busy: number;

  constructor(options: SimulateOptions) {
    this.#options = options;
    this.#pieces = typeof options.pieces === 'number' ? [options.pieces] : options.pieces;
    this.#busy = options.nodes * this.#pieces.length;
    this.#network = new Network(this.#clock, options.latencyMs ?? DEFAULT_LATENCY_MS);
    this.#chance = new Chance(options.seed);
    const rate = options.rateBytesPerSec ?? 12.5e6;
    const { slow = { share: 0, rate: 1 } } = options;
    for (let i = 0; i < (options.origins ?? 1); i++)
      this.#add(`o${i}`, options.originRateBytesPerSec ?? rate * 4);
    for (let i = 0; i < options.nodes; i++)
      this.#add(`a${i}`, rate * (i < Math.round(slow.share * options.nodes) ? slow.rate : 1));
    this.#stage = {
      clock: this.#clock,
      network: this.#network,
      chance: this.#chance,
      trace: this.#trace,
      machines: this.#machines,
    };
    if (options.upstream !== undefined)
      this.#upstream = new Upstream(this.#stage, options.upstream, options.blockBytes ?? BLOCK_BYTES);
    this.#swarms = this.#pieces.map((pieces, number) => this.#swarm(pieces, number));
  }

  start(): void {
    const { startMs = DEFAULT_START_MS, upstream } = this.#options;
    const trackers = this.#options.trackers ?? (upstream === undefined ? undefined : DEFAULT_TRACKERS);
    for (const swarm of this.#swarms) swarm.land();
    const startOf = new Map([...this.#machines.keys()].map((name) => [name, this.#chance.next() * startMs]));
    const shared = trackers === undefined ? undefined : new Trackers(this.#stage, trackers);
    for (const swarm of this.#swarms) swarm.start(startOf, shared);
    for (const fault of this.#options.faults ?? [])
      this.#clock.at(fault.atMs, () => this.#befall(fault, shared));
  }

  #befall(fault: Fault, trackers: Trackers | undefined): void {
    if (fault.kind === 'tracker') trackers?.fail('killed');
    else if (fault.kind === 'loss') this.#network.lose(fault.share);
    else if (fault.kind === 'crash')
      for (const swarm of this.#swarms) swarm.crash(fault.node, fault.backMs, trackers);
    else if (fault.kind === 'partition') this.#network.cut(fault.nodes, fault.untilMs);
    else
      for (const swarm of this.#swarms) {
        swarm.nodes.get(fault.node)?.fail(fault.kind);
        if (fault.kind !== 'corrupt') swarm.ports.get(fault.node)?.fail(fault.kind);
      }
  }

  run(tell: ((progress: SimulateProgress) => void) | undefined): void {
    const untilMs = this.#options.untilMs ?? 600_000;
    const clock = this.#clock;
    let steps = 0;
    while (clock.nowMs < untilMs && this.#busy > 0 && clock.step()) {
      steps += 1;
      if (steps % STEPS_A_WORD === 0) tell?.({ atMs: clock.nowMs, busy: this.#busy });
    }
  }

  summary(): Result {
    const members = this.#swarms.flatMap((swarm) => swarm.members);
    const finishedMs = this.#finishedMs();
    const sum = (of: (node: SimNode) => number): number =>
      members.reduce((total, node) => total + of(node), 0);
    const blobPieces = this.#pieces.reduce((total, one) => total + one, 0);
    let sentBytes = 0;
    for (const name of this.#machines.keys())
      if (name.startsWith('o')) sentBytes += this.#network.sentBytes(name);
    let asked = 0;
    for (const swarm of this.#swarms) for (const port of swarm.ports.values()) asked += port.asked;
    return {
      finishedMs,
      lastMs: Math.max(0, ...finishedMs.values()),
      originCopies: sentBytes / (blobPieces * PIECE_BYTES),
      upstreamCopies: (this.#upstream?.sentPieces ?? 0) / blobPieces,
      twice: this.#swarms.reduce((total, { cold }) => total + (cold?.twice ?? 0), 0),
      httpCopies: asked / blobPieces,
      duplicates: sum((node) => node.duplicates + node.lateBytes / PIECE_BYTES),
      badPieces: sum((node) => node.badPieces),
      farShare:
        sum((node) => node.farBlocks) /
        Math.max(
          1,
          sum((node) => node.blocks),
        ),
      readerWaitMs: Math.max(...members.filter((node) => node.alive).map((node) => node.reader.waitMs)),
      readerHalfShare: Math.max(
        0,
        ...members.map(({ reader, finishedMs: ended }) => (reader.halfMs ?? 0) / (ended ?? 1)),
      ),
      effects: this.#trace.count,
      traceHash: this.#trace.hex,
    };
  }

  /** Members that have all blobs, and since when. */
  #finishedMs(): Map<string, number> {
    const finished = new Map<string, number>();
    for (const name of this.#machines.keys()) {
      if (name.startsWith('o')) continue;
      const times = this.#swarms.map((swarm) => swarm.nodes.get(name)?.finishedMs);
      if (times.every((time) => time !== undefined)) finished.set(name, Math.max(...times));
    }
    return finished;
  }

  #swarm(pieces: number, number: number): BlobSwarm {
    const options = this.#options;
    return new BlobSwarm(this.#stage, {
      number,
      pieces,
      checked: options.checked ?? false,
      landEveryMs: options.landEveryMs ?? 0,
      newsMs: options.newsMs ?? 0,
      upstream: this.#upstream,
      fullOrigins: options.fullOrigins ?? [],
      emptyOrigins: options.emptyOrigins ?? [],
      http: options.http ?? true,
      dialMs: options.dialMs ?? 0,
      zones: options.zones ?? 1,
      readers: options.readers ?? true,
      limits: options.limits ?? {},
      onEnd: () => {
        this.#busy -= 1;
      },
    });
  }

  #add(name: string, rateBytesPerSec: number): void {
    const { cpu, blockBytes = BLOCK_BYTES } = this.#options;
    this.#network.add(name, rateBytesPerSec, rateBytesPerSec);
    const init = { name, clock: this.#clock, network: this.#network, blockBytes, cpu };
    this.#machines.set(name, new Machine(init));
  }
}
