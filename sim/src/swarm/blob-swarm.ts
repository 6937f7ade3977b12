import { Bitfield } from '@sepia/base/bitfield';
import type { KnownPeer } from '@sepia/swarm/core/events';
import { CORE_LIMITS, type CoreLimits } from '@sepia/swarm/core/limits';
import type { Trackers } from '../control/trackers.ts';
import type { Upstream } from '../control/upstream.ts';
import { HttpPort } from '../wire/http.ts';
import type { Stage } from '../wire/stage.ts';
import { ColdBlob } from './cold-blob.ts';
import { SimNode } from './node.ts';

/** Peers that a member remembers, and those that a tracker hands out at most. */
const KNOWN = CORE_LIMITS.knownPeers;
const HANDED_OUT = 50;

/** One blob and how it comes: see `SimulateOptions`. */
export interface BlobPlan {
  /** Which of the run's. */
  readonly number: number;
  readonly pieces: number;
  readonly landEveryMs: number;
  readonly newsMs: number;
  /** Where the pieces come from that no origin has: the whole control plane runs then. */
  readonly source: Upstream | 'pushed' | undefined;
  readonly fullOrigins: readonly number[];
  readonly emptyOrigins: readonly number[];
  readonly http: boolean;
  readonly dialMs: number;
  readonly zones: number;
  readonly readers: boolean;
  readonly limits: Partial<CoreLimits>;
  readonly checked: boolean;
  /** A member has all of it, or died. */
  readonly onEnd: () => void;
}

/** Whom members may be told of. */
interface Peers {
  readonly all: readonly KnownPeer[];
  readonly origins: readonly KnownPeer[];
}

/** All nodes of one blob: a core each, on the machines of the run. */
export class BlobSwarm {
  readonly nodes = new Map<string, SimNode>();
  readonly ports = new Map<string, HttpPort>();
  readonly plan: BlobPlan;
  readonly #stage: Stage;
  readonly #empty: readonly string[];
  /** Pieces whose hash the origins know, and those that members know. */
  readonly #landed = new Set<number>();
  readonly #told = new Set<number>();
  /** Each node's place among all. */
  readonly #numbers: ReadonlyMap<string, number>;
  /** What {@link BlobSwarm.#known} says; undefined where a node was added since. */
  #peers: Peers | undefined;
  readonly cold: ColdBlob | undefined;

  constructor(stage: Stage, plan: BlobPlan) {
    this.#stage = stage;
    this.plan = plan;
    const { number, pieces, source } = plan;
    const upstream = source === 'pushed' ? undefined : source;
    const landed = (origin: string, index: number): void => this.ports.get(origin)!.landed(index);
    if (source !== undefined)
      this.cold = new ColdBlob({ stage, number, pieces, upstream, nodes: this.nodes, landed });
    this.#empty = plan.emptyOrigins.map((position) => `o${position}`);
    this.#numbers = new Map([...stage.machines.keys()].map((name, at) => [name, at]));
    for (const name of stage.machines.keys()) this.#add(name, this.#kept(name));
  }

  get members(): SimNode[] {
    return [...this.nodes.values()].filter((node) => !node.origin);
  }

  get #cold(): boolean {
    return this.plan.landEveryMs > 0 || this.cold !== undefined;
  }

  /** Pieces come to the first origin in turn. */
  land(): void {
    const { landEveryMs: everyMs, newsMs, pieces } = this.plan;
    if (everyMs === 0) return;
    const { clock } = this.#stage;
    for (let index = 0; index < pieces; index++) {
      clock.at((index + 1) * everyMs, () => {
        this.#landed.add(index);
        for (const node of this.nodes.values()) if (node.origin) node.onKnown(index, node.name === 'o0');
        this.ports.get('o0')?.landed(index);
      });
      clock.at((index + 1) * everyMs + newsMs, () => {
        this.#told.add(index);
        for (const node of this.nodes.values()) if (!node.origin) node.onKnown(index, false);
      });
    }
  }

  /** Each node begins at its time. */
  start(startOf: ReadonlyMap<string, number>, trackers?: Trackers): void {
    if (this.cold !== undefined) trackers!.located(this.plan.number, this.cold);
    for (const node of this.nodes.values())
      if (node.origin || this.plan.source !== 'pushed')
        this.#stage.clock.at(startOf.get(node.name)!, () => this.#begin(node, trackers));
  }

  /** A member begins, now: what was pushed is there. */
  begin(name: string, trackers: Trackers): void {
    this.#begin(this.#add(name, this.#kept(name)), trackers);
  }

  /** With no trackers it knows all others, or as many as one would name. */
  #begin(node: SimNode, trackers: Trackers | undefined): void {
    const ports = this.plan.http && !node.origin ? [...this.ports.values()] : [];
    if (trackers === undefined) {
      const { all: peers, origins } = this.#known();
      node.start(peers.length <= KNOWN ? peers : [...origins, ...this.#drawn(peers)], ports);
    } else if (node.origin) node.start([], []);
    else if (this.cold !== undefined) node.start([], ports, this.cold.join(trackers));
    else node.start(this.#known().origins, ports, trackers.join.bind(trackers, this.plan.number));
  }

  /** Whom a member may be told of. */
  #known(): Peers {
    if (this.#peers !== undefined) return this.#peers;
    const all = [...this.nodes.values()]
      .filter((node) => !this.#empty.includes(node.name))
      .map((node) => node.asPeer());
    this.#peers = { all, origins: all.filter(({ origin }) => origin) };
    return this.#peers;
  }

  /** Members by lot. */
  #drawn(peers: readonly KnownPeer[]): KnownPeer[] {
    const drawn = new Set<KnownPeer>();
    while (drawn.size < HANDED_OUT) drawn.add(peers[this.#stage.chance.below(peers.length)]!);
    return [...drawn].filter(({ origin }) => !origin);
  }

  /** A node crashes, and starts `backMs` later with what it had on disk. */
  crash(name: string, backMs: number, trackers: Trackers | undefined): void {
    const { clock, machines } = this.#stage;
    const node = this.nodes.get(name)!;
    if (!node.alive) return;
    node.fail('crash');
    this.ports.get(name)?.fail('kill');
    clock.at(clock.nowMs + backMs, () => {
      machines.get(name)!.uplink.revive();
      this.ports.get(name)?.revive();
      const fresh = this.#add(name, node.durable.clone());
      this.cold?.forget(name);
      if (node.finishedMs !== undefined) fresh.ended(node.finishedMs);
      this.#begin(fresh, trackers);
    });
  }

  /** What a node begins with. */
  #kept(name: string): Bitfield {
    const { pieces, fullOrigins } = this.plan;
    const isFull = name.startsWith('o') && !this.#empty.includes(name);
    const position = Number(name.slice(1));
    return isFull && (!this.#cold || fullOrigins.includes(position))
      ? Bitfield.full(pieces)
      : new Bitfield(pieces);
  }

  #add(name: string, have: Bitfield): SimNode {
    const { clock, network, chance, trace, machines } = this.#stage;
    const { pieces, readers, limits, checked, dialMs, zones, onEnd } = this.plan;
    const origin = name.startsWith('o');
    const position = Number(name.slice(1));
    const known = origin ? this.#landed : this.#told;
    const { cold } = this;
    const machine = machines.get(name)!;
    const node = new SimNode({
      name,
      number: this.#numbers.get(name)!,
      peerId: name,
      zone: `z${origin ? 0 : position % zones}`,
      origin,
      have,
      leech: !origin || cold !== undefined,
      pieces,
      knows: (index) => !this.#cold || (cold === undefined ? known.has(index) : cold.knows(name, index)),
      seed: chance.below(2 ** 31),
      clock,
      network,
      machine,
      nodes: this.nodes,
      trace,
      reader: readers && !origin,
      limits,
      checked,
      dialMs,
      onEnd: () => {
        if (!origin) onEnd();
      },
    });
    this.nodes.set(name, node);
    this.#peers = undefined;
    if (!origin || this.ports.has(name)) return node;
    const holder = (): HttpPort | undefined => {
      const at = cold === undefined ? (this.#empty.includes(name) ? 'o0' : undefined) : cold.leader;
      return at === undefined ? undefined : this.ports.get(at);
    };
    const has = (index: number): boolean => this.nodes.get(name)!.has(index);
    const wanted = (index: number): (() => void) | undefined => cold?.read(name, index);
    this.ports.set(name, new HttpPort({ name, network, machine, has, holder, wanted }));
    return node;
  }
}
