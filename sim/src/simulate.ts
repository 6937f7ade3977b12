import type { KnownPeer } from '@sepia/swarm/core/events';
import { CORE_LIMITS, type CoreLimits } from '@sepia/swarm/core/limits';
import { Chance } from '@sepia/swarm/core/random';
import { VirtualClock } from './clock.ts';
import { HttpPort } from './http.ts';
import { DEFAULT_LATENCY_MS, DEFAULT_START_MS, Network } from './network.ts';
import { SimNode } from './node.ts';
import { TraceHash } from './trace.ts';
import { BLOCK_BYTES, PIECE_BYTES } from './uplink.ts';

/** Members that a core keeps in mind; of more, each is told by lot what a tracker hands out at most. */
const KNOWN = CORE_LIMITS.knownPeers;
const HANDED_OUT = 50;

/** What goes wrong: at `atMs` the node dies (no word to anybody who listens), stops for good, or sends bad pieces from then on. */
export interface Fault {
  readonly kind: 'kill' | 'stop' | 'corrupt';
  readonly node: string;
  readonly atMs: number;
}

export interface SimulateOptions {
  /** Members that download. Named `a0` …; origins are `o0` …. */
  readonly nodes: number;
  readonly origins?: number;
  readonly pieces: number;
  /** Each way, per node. */
  readonly rateBytesPerSec?: number;
  readonly originRateBytesPerSec?: number;
  readonly latencyMs?: number;
  /** How long the stretches are in which uploads to several peers mix; a part of 1 MiB. Default 128 KiB, as on the wire. */
  readonly blockBytes?: number;
  /** Piece i lands at the origins at i × this; 0: they have all. */
  readonly landEveryMs?: number;
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
  readonly readers?: boolean;
  readonly faults?: readonly Fault[];
  readonly seed: number;
  readonly untilMs?: number;
  readonly limits?: Partial<CoreLimits>;
}

export interface Result {
  /** Node → ms at which it had all pieces; missing if it never had. */
  readonly finishedMs: ReadonlyMap<string, number>;
  readonly lastMs: number;
  /** Copies of the blob that left the origins. */
  readonly originCopies: number;
  /** The same, over HTTP. */
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

/** Runs the cores of `shared/swarm/src/core` on a virtual clock and network until all finished or `untilMs`. */
export function simulate(options: SimulateOptions): Result {
  const world = new World(options);
  world.land();
  world.start();
  world.run();
  return world.summary();
}

/** All nodes of one run, on one clock. */
class World {
  readonly #options: SimulateOptions;
  readonly #clock = new VirtualClock();
  readonly #trace = new TraceHash();
  /** Members that live and have not all. */
  #busy: number;
  readonly #network: Network;
  readonly #chance: Chance;
  readonly #nodes = new Map<string, SimNode>();
  readonly #ports = new Map<string, HttpPort>();
  readonly #empty: readonly string[];
  /** Pieces whose hash the origins know, and those that members know. */
  readonly #landed = new Set<number>();
  readonly #told = new Set<number>();

  constructor(options: SimulateOptions) {
    this.#options = options;
    this.#busy = options.nodes;
    this.#network = new Network(this.#clock, options.latencyMs ?? DEFAULT_LATENCY_MS);
    this.#chance = new Chance(options.seed);
    this.#empty = (options.emptyOrigins ?? []).map((position) => `o${position}`);
    const rate = options.rateBytesPerSec ?? 12.5e6;
    const egress = options.originRateBytesPerSec ?? rate * 4;
    for (let i = 0; i < (options.origins ?? 1); i++) this.#add(`o${i}`, egress, i);
    for (let i = 0; i < options.nodes; i++) this.#add(`a${i}`, rate, i);
  }

  get #cold(): boolean {
    return (this.#options.landEveryMs ?? 0) > 0;
  }

  land(): void {
    const everyMs = this.#options.landEveryMs ?? 0;
    if (everyMs === 0) return;
    const newsMs = this.#options.newsMs ?? 0;
    for (let index = 0; index < this.#options.pieces; index++) {
      this.#clock.at((index + 1) * everyMs, () => {
        this.#landed.add(index);
        for (const node of this.#nodes.values()) if (node.origin) node.onKnown(index, node.name === 'o0');
        this.#ports.get('o0')?.landed(index);
      });
      this.#clock.at((index + 1) * everyMs + newsMs, () => {
        this.#told.add(index);
        for (const node of this.#nodes.values()) if (!node.origin) node.onKnown(index, false);
      });
    }
  }

  start(): void {
    const peers = [...this.#nodes.values()]
      .filter((node) => !this.#empty.includes(node.name))
      .map(({ name, origin, zone }) => ({ peerId: name, addresses: [name], origin, zone }));
    const origins = peers.filter(({ origin }) => origin);
    const ports = this.#options.http === false ? [] : [...this.#ports.values()];
    for (const node of this.#nodes.values()) {
      const atMs = this.#chance.next() * (this.#options.startMs ?? DEFAULT_START_MS);
      const known = peers.length <= KNOWN ? peers : [...origins, ...this.#drawn(peers)];
      this.#clock.at(atMs, () => node.start(known, node.origin ? [] : ports));
    }
    for (const fault of this.#options.faults ?? [])
      this.#clock.at(fault.atMs, () => {
        this.#nodes.get(fault.node)?.fail(fault.kind);
        if (fault.kind !== 'corrupt') this.#ports.get(fault.node)?.fail(fault.kind);
      });
  }

  /** Members as a tracker hands them out: by lot, since nobody keeps more. */
  #drawn(peers: readonly KnownPeer[]): KnownPeer[] {
    const drawn = new Set<KnownPeer>();
    while (drawn.size < HANDED_OUT) drawn.add(peers[this.#chance.below(peers.length)]!);
    return [...drawn].filter(({ origin }) => !origin);
  }

  run(): void {
    const untilMs = this.#options.untilMs ?? 600_000;
    while (this.#clock.nowMs < untilMs && this.#busy > 0 && this.#clock.step());
  }

  summary(): Result {
    const members = [...this.#nodes.values()].filter((node) => !node.origin);
    const finishedMs = new Map<string, number>();
    for (const node of members) if (node.finishedMs !== undefined) finishedMs.set(node.name, node.finishedMs);
    const sum = (of: (node: SimNode) => number): number =>
      members.reduce((total, node) => total + of(node), 0);
    const blobBytes = this.#options.pieces * PIECE_BYTES;
    let sentBytes = 0;
    let asked = 0;
    for (const [name, port] of this.#ports) {
      sentBytes += this.#network.sentBytes(name);
      asked += port.asked;
    }
    return {
      finishedMs,
      lastMs: Math.max(0, ...finishedMs.values()),
      originCopies: sentBytes / blobBytes,
      httpCopies: asked / this.#options.pieces,
      duplicates: sum((node) => node.duplicates + (node.lateBlocks * node.uplink.blockBytes) / PIECE_BYTES),
      badPieces: sum((node) => node.badPieces),
      farShare:
        sum((node) => node.farBlocks) /
        Math.max(
          1,
          sum((node) => node.blocks),
        ),
      readerWaitMs: Math.max(...members.filter((node) => node.alive).map((node) => node.readerWaitMs)),
      readerHalfShare: Math.max(
        0,
        ...members.map(({ readerHalfMs, finishedMs: ended }) => (readerHalfMs ?? 0) / (ended ?? 1)),
      ),
      effects: this.#trace.count,
      traceHash: this.#trace.hex,
    };
  }

  #add(name: string, rateBytesPerSec: number, position: number): void {
    const { pieces, fullOrigins, readers, limits } = this.#options;
    const origin = name.startsWith('o');
    const known = origin ? this.#landed : this.#told;
    this.#network.add(name, rateBytesPerSec, rateBytesPerSec);
    const full =
      origin && !this.#empty.includes(name) && (!this.#cold || fullOrigins?.includes(position) === true);
    const node = new SimNode({
      name,
      number: this.#nodes.size,
      peerId: name,
      zone: `z${origin ? 0 : position % (this.#options.zones ?? 1)}`,
      origin,
      full,
      leech: !origin,
      pieces,
      knows: (index) => !this.#cold || known.has(index),
      seed: this.#chance.below(2 ** 31),
      clock: this.#clock,
      network: this.#network,
      nodes: this.#nodes,
      trace: this.#trace,
      blockBytes: this.#options.blockBytes ?? BLOCK_BYTES,
      onEnd: () => {
        if (!origin) this.#busy -= 1;
      },
      reader: readers !== false && !origin,
      limits: limits ?? {},
      dialMs: this.#options.dialMs ?? 0,
    });
    this.#nodes.set(name, node);
    if (!origin) return;
    this.#ports.set(
      name,
      new HttpPort({
        name,
        network: this.#network,
        uplink: node.uplink,
        has: (index) => node.has(index),
        holder: () => (this.#empty.includes(name) ? this.#ports.get('o0') : undefined),
      }),
    );
  }
}
