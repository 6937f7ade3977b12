import type { CoreLimits } from '@sepia/shared/swarm/core/limits';
import { Chance } from '@sepia/shared/swarm/core/random';
import { VirtualClock } from './clock.ts';
import { Network } from './network.ts';
import { SimNode } from './node.ts';

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
  /** Piece i lands at the origins at i × this; 0: they have all. */
  readonly landEveryMs?: number;
  /** Which origins have the blob from the start, whatever `landEveryMs` says. */
  readonly fullOrigins?: readonly number[];
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
  /** Pieces that arrived though their node had them: hedges and endgame. */
  readonly duplicates: number;
  readonly badPieces: number;
  readonly effects: number;
  /** Of all effects with node and time, in order: equal seeds give equal hashes. */
  readonly traceHash: string;
}

/** Runs the cores of `shared/src/swarm/core` on a virtual clock and network until all finished or `untilMs`. */
export function simulate(options: SimulateOptions): Result {
  const clock = new VirtualClock();
  const trace = new TraceHash();
  const rate = options.rateBytesPerSec ?? 12.5e6;
  const network = new Network(clock, options.latencyMs ?? 0.5);
  const chance = new Chance(options.seed);
  const names = [
    ...Array.from({ length: options.origins ?? 1 }, (_, i) => `o${i}`),
    ...Array.from({ length: options.nodes }, (_, i) => `a${i}`),
  ];
  const landed = new Set<number>();
  const nodes = new Map<string, SimNode>();
  for (const [position, name] of names.entries()) {
    const origin = name.startsWith('o');
    const full =
      origin && ((options.landEveryMs ?? 0) === 0 || options.fullOrigins?.includes(position) === true);
    const egress = origin ? (options.originRateBytesPerSec ?? rate * 4) : rate;
    network.add(name, egress, origin ? egress : rate);
    nodes.set(
      name,
      new SimNode({
        name,
        peerId: name,
        origin,
        full,
        leech: !origin,
        pieces: options.pieces,
        knows: (index) => (options.landEveryMs ?? 0) === 0 || landed.has(index),
        seed: chance.below(2 ** 31),
        clock,
        network,
        nodes,
        trace: (text) => trace.add(text),
        reader: options.readers !== false && !origin,
        limits: options.limits ?? {},
      }),
    );
  }
  const everyMs = options.landEveryMs ?? 0;
  if (everyMs > 0) {
    for (let index = 0; index < options.pieces; index++) {
      clock.at(index * everyMs, () => {
        landed.add(index);
        for (const node of nodes.values()) node.onKnown(index, node.name === 'o0');
      });
    }
  }
  const peers = names.map((name) => ({
    peerId: name,
    addresses: [name],
    origin: name.startsWith('o'),
    zone: '',
  }));
  for (const node of nodes.values()) clock.at(chance.next() * 50, () => node.start(peers));
  for (const fault of options.faults ?? [])
    clock.at(fault.atMs, () => nodes.get(fault.node)?.fail(fault.kind));
  const untilMs = options.untilMs ?? 600_000;
  const agents = [...nodes.values()].filter((node) => !node.origin);
  while (clock.nowMs < untilMs && agents.some((node) => node.alive && !node.done) && clock.step());
  return summary(options, nodes, trace);
}

function summary(options: SimulateOptions, nodes: ReadonlyMap<string, SimNode>, trace: TraceHash): Result {
  const finishedMs = new Map<string, number>();
  let originPieces = 0;
  let duplicates = 0;
  let badPieces = 0;
  for (const node of nodes.values()) {
    if (!node.origin && node.finishedMs !== undefined) finishedMs.set(node.name, node.finishedMs);
    if (node.origin) originPieces += node.sentPieces;
    duplicates += node.duplicates;
    badPieces += node.badPieces;
  }
  return {
    finishedMs,
    lastMs: Math.max(0, ...finishedMs.values()),
    originCopies: originPieces / options.pieces,
    duplicates,
    badPieces,
    effects: trace.count,
    traceHash: trace.hex,
  };
}

/** FNV-1a, 2 × 32 bit. */
class TraceHash {
  count = 0;
  #a = 0x811c9dc5;
  #b = 0x1000193;

  add(text: string): void {
    this.count += 1;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      this.#a = Math.imul(this.#a ^ code, 0x01000193) >>> 0;
      this.#b = Math.imul(this.#b ^ (code + i), 0x85ebca6b) >>> 0;
    }
  }

  get hex(): string {
    return this.#a.toString(16).padStart(8, '0') + this.#b.toString(16).padStart(8, '0');
  }
}
