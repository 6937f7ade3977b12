import type { CoreLimits } from '@sepia/swarm/core/limits';
import type { UpstreamPlan } from '../control/upstream.ts';
import type { CpuCost } from '../wire/machine.ts';
import { World } from './world.ts';

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
  /** No origin has it: a client with such a line pushes it, members pull once they see its tag. See {@link simulatePush}. */
  readonly pushed?: { readonly rateBytesPerSec: number };
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

/** How one member's stream came, in ms from its opening: until half of it and all of it were there, and its longest wait for a piece. */
export interface StreamFigures {
  readonly halfMs: number;
  readonly tookMs: number;
  readonly waitMs: number;
}

/** What a run came to, in virtual time. */
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
  /** Of a member's own time, the share after which half of the stream had reached its reader: the largest. */
  readonly readerHalfShare: number;
  /** Members that have all, by name. */
  readonly streams: ReadonlyMap<string, StreamFigures>;
  readonly badPieces: number;
  readonly effects: number;
  /** Of all effects with node and time, in order: equal seeds give equal hashes. */
  readonly traceHash: string;
}

/** How far a run is. */
export interface SimulateProgress {
  /** On the virtual clock. */
  readonly atMs: number;
  /** Pieces of 1 MiB that members have, of all blobs. */
  readonly pieces: number;
}

/** Runs the cores of `shared/swarm/src/core` on a virtual clock and network until all finished or `untilMs`. */
export function simulate(options: SimulateOptions, tell?: (progress: SimulateProgress) => void): Result {
  const world = new World(options);
  world.start();
  world.run(tell);
  return world.summary();
}

/** As {@link simulate}, of one blob that is pushed: bytes, link and tag on their quorums before members see it. */
export async function simulatePush(
  options: SimulateOptions & Required<Pick<SimulateOptions, 'pushed'>>,
): Promise<Result & { readonly pushedMs: number | undefined }> {
  const world = new World(options);
  world.start();
  const pushedMs = await world.runPush();
  return { ...world.summary(), pushedMs };
}
