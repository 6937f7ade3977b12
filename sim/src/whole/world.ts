import { Chance } from '@sepia/swarm/core/random';
import { Trackers } from '../control/trackers.ts';
import { Upstream } from '../control/upstream.ts';
import { BlobSwarm } from '../swarm/blob-swarm.ts';
import type { SimNode } from '../swarm/node.ts';
import { SimPush } from '../swarm/push.ts';
import type { SimReader } from '../swarm/reader.ts';
import { STEPS_A_WORD, VirtualClock } from '../wire/clock.ts';
import { Machine } from '../wire/machine.ts';
import { DEFAULT_LATENCY_MS, DEFAULT_START_MS, Network } from '../wire/network.ts';
import type { Stage } from '../wire/stage.ts';
import { TraceHash } from '../wire/trace.ts';
import { BLOCK_BYTES, PIECE_BYTES } from '../wire/uplink.ts';
import type { Fault, Result, SimulateOptions, SimulateProgress, StreamFigures } from './simulate.ts';

/** Where a blob comes from a registry, and nothing is said of trackers. */
const DEFAULT_TRACKERS = { count: 2, callMs: 0.1 };
/** Turns of the event loop in which all that waits for an answer has it. */
const TURNS = 3;

/** All nodes and blobs of one run, on one clock. */
export class World {
  readonly #options: SimulateOptions;
  readonly #clock = new VirtualClock();
  readonly #trace = new TraceHash();
  readonly #network: Network;
  readonly #chance: Chance;
  readonly #machines = new Map<string, Machine>();
  readonly #pieces: readonly number[];
  readonly #swarms: readonly BlobSwarm[];
  readonly #upstream: Upstream | undefined;
  readonly #client: Upstream | undefined;
  #trackers: Trackers | undefined;
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
    if (options.pushed !== undefined)
      this.#client = new Upstream(this.#stage, options.pushed, options.blockBytes ?? BLOCK_BYTES, 'client');
    if (options.upstream !== undefined)
      this.#upstream = new Upstream(this.#stage, options.upstream, options.blockBytes ?? BLOCK_BYTES);
    this.#swarms = this.#pieces.map((pieces, number) => this.#swarm(pieces, number));
  }

  start(): void {
    const { startMs = DEFAULT_START_MS, upstream, pushed } = this.#options;
    const isServed = upstream !== undefined || pushed !== undefined;
    const trackers = this.#options.trackers ?? (isServed ? DEFAULT_TRACKERS : undefined);
    for (const swarm of this.#swarms) swarm.land();
    const startOf = new Map([...this.#machines.keys()].map((name) => [name, this.#chance.next() * startMs]));
    const shared = trackers === undefined ? undefined : new Trackers(this.#stage, trackers);
    this.#trackers = shared;
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
      if (steps % STEPS_A_WORD === 0) tell?.({ atMs: clock.nowMs, pieces: this.#came() });
    }
  }

  /** Pieces that members have by now. */
  #came(): number {
    let pieces = 0;
    for (const { members } of this.#swarms) for (const node of members) pieces += node.pieces;
    return pieces;
  }

  /** One blob is pushed, all members wait for it. When that was acknowledged. @throws what went wrong of it */
  async runPush(): Promise<number | undefined> {
    const swarm = this.#swarms[0]!;
    const blob = swarm.cold!;
    const push = new SimPush({
      stage: this.#stage,
      swarm,
      blob,
      client: this.#client!,
      trackers: this.#trackers!,
    });
    const wrong: unknown[] = [];
    const all = [push.push(), ...swarm.members.map(async ({ name }) => await push.pull(name))];
    Promise.all(all).catch((error: unknown) => wrong.push(error));
    const clock = this.#clock;
    const untilMs = this.#options.untilMs ?? 600_000;
    for (let isOn = true; isOn && this.#busy > 0 && clock.nowMs < untilMs; ) {
      // What was told runs on until it waits for the clock again.
      for (let turn = 0; turn < TURNS; turn++) await new Promise((resolve) => setImmediate(resolve));
      if (wrong.length > 0) throw wrong[0];
      isOn = clock.step();
    }
    return push.pushedMs;
  }

  summary(): Result {
    const members = this.#swarms.flatMap((swarm) => swarm.members);
    const finishedMs = this.#finishedMs();
    const sum = (of: (node: SimNode) => number): number =>
      members.reduce((total, node) => total + of(node), 0);
    const streams = new Map(
      members
        .filter(({ reader, finishedMs: ended }) => reader.halfMs !== undefined && ended !== undefined)
        .map(({ name, reader, finishedMs: ended }) => [name, figuresOf(reader, ended!)]),
    );
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
      readerHalfShare: Math.max(0, ...[...streams.values()].map(({ halfMs, tookMs }) => halfMs / tookMs)),
      streams,
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
      source: this.#client === undefined ? this.#upstream : 'pushed',
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

function figuresOf({ openMs, halfMs, waitMs }: SimReader, endedMs: number): StreamFigures {
  return { halfMs: halfMs! - openMs, tookMs: endedMs - openMs, waitMs };
}
