import { seeded } from '@sepia/test-support/seeded';

/** What may happen to members in a round. */
export const FAULTS = [
  'none',
  'kill',
  'kill-all-origins',
  'halt',
  'disk-full',
  'clock-jump',
  'rot',
  'disk-lost',
  'disk-set-back',
  'disk-damaged',
  'kill-database',
  'kill-database-and-origins',
] as const;
export type FaultName = (typeof FAULTS)[number];

/** Faults that take copies away: one at a time, until nothing is owed. */
export const DESTRUCTIVE: ReadonlySet<FaultName> = new Set([
  'rot',
  'disk-lost',
  'disk-set-back',
  'disk-damaged',
]);

/** Faults of the database that records rest in. */
export const OF_DATABASE: ReadonlySet<FaultName> = new Set(['kill-database', 'kill-database-and-origins']);

const WEIGHTS: Readonly<Record<FaultName, number>> = {
  none: 0.5,
  kill: 4,
  'kill-all-origins': 1,
  halt: 2,
  'disk-full': 1.5,
  'clock-jump': 1.5,
  rot: 1.5,
  'disk-lost': 2,
  'disk-set-back': 1,
  'disk-damaged': 1,
  'kill-database': 3,
  'kill-database-and-origins': 1,
};

/** Clocks are set this far wrong, in seconds: within what signatures bear, and far beyond. */
const JUMPS_S = [-600, -90, -20, 20, 90, 600];
const HALTS_MS = [700, 2_500, 6_000];
const WINDOW_MS = 2_500;
const OPERATIONS = 9;
const TAGS = 8;

interface Fault {
  readonly name: FaultName;
  readonly victim: string;
  /** When in the round, in ms. */
  readonly atMs: number;
  /** Of a halt, or how long the database is away, in ms. */
  readonly haltMs: number;
  /** Of a clock, in seconds. */
  readonly jumpS: number;
  /** Chooses files and bytes. */
  readonly seed: number;
}

/** What a client does; `pick` in [0, 1) chooses among what is there by then. */
export interface Operation {
  readonly type: 'push' | 'retag' | 'delete' | 'read-tag' | 'read-blob' | 'read-range';
  readonly atMs: number;
  readonly tag: string;
  /** The member that is asked. */
  readonly at: string;
  readonly pick: number;
  /** Seeds and sizes of the blobs of a push, in bytes. */
  readonly blobs: readonly { readonly seed: number; readonly sizeBytes: number }[];
}

export interface Round {
  readonly fault: Fault;
  readonly operations: readonly Operation[];
}

export interface Topology {
  readonly origins: readonly string[];
  readonly proxies: readonly string[];
  readonly trackers: readonly string[];
  readonly agents: readonly string[];
  /** Whose disk can be filled. */
  readonly smallDisk: string | undefined;
}

/** The rounds of a seed: the same seed, topology and faults give the same rounds. */
export function roundsOf(
  seed: number,
  count: number,
  topology: Topology,
  faults: readonly FaultName[],
): Round[] {
  const chance = seeded(seed);
  const pick = <T>(list: readonly T[]): T => list[Math.floor(chance() * list.length)]!;
  const deck: FaultName[] = [];
  return Array.from({ length: count }, () => {
    if (deck.length === 0) deck.push(...shuffled(faults, chance));
    const name = chance() < 0.6 ? deck.pop()! : weighted(faults, chance);
    return {
      fault: faultOf(name, topology, chance, pick),
      operations: operationsOf(topology, chance, pick),
    };
  });
}

/** Each fault comes once before one comes twice by this deck: short runs see all kinds. */
function shuffled(faults: readonly FaultName[], chance: () => number): FaultName[] {
  return faults
    .map((name) => ({ name, at: chance() }))
    .sort((a, b) => a.at - b.at)
    .map(({ name }) => name);
}

function weighted(faults: readonly FaultName[], chance: () => number): FaultName {
  let left = chance() * faults.reduce((sum, name) => sum + WEIGHTS[name], 0);
  for (const name of faults) {
    left -= WEIGHTS[name];
    if (left < 0) return name;
  }
  return faults[0]!;
}

function faultOf(
  name: FaultName,
  topology: Topology,
  chance: () => number,
  pick: <T>(list: readonly T[]) => T,
): Fault {
  const { origins, proxies, trackers, agents, smallDisk } = topology;
  const anybody = [...origins, ...origins, ...proxies, ...trackers, ...agents];
  const isOfMembers = name === 'kill' || name === 'halt' || name === 'clock-jump';
  const victim = name === 'disk-full' ? smallDisk! : pick(isOfMembers ? anybody : origins);
  return {
    name,
    victim,
    atMs: Math.floor(chance() * 600),
    haltMs: pick(HALTS_MS),
    jumpS: pick(JUMPS_S),
    seed: Math.floor(chance() * 2 ** 31),
  };
}

function operationsOf(
  topology: Topology,
  chance: () => number,
  pick: <T>(list: readonly T[]) => T,
): Operation[] {
  return Array.from({ length: OPERATIONS }, () => {
    const dice = chance();
    const type =
      dice < 0.35
        ? 'push'
        : dice < 0.5
          ? 'retag'
          : dice < 0.58
            ? 'delete'
            : dice < 0.75
              ? 'read-tag'
              : dice < 0.9
                ? 'read-blob'
                : 'read-range';
    const writes = type === 'push' || type === 'retag' || type === 'delete';
    const readers = [...topology.proxies, ...topology.agents];
    const at = pick(writes ? topology.proxies : readers);
    const blobs =
      type === 'push'
        ? Array.from({ length: 1 + Math.floor(chance() * 2) }, () => ({
            seed: Math.floor(chance() * 2 ** 31),
            sizeBytes: sizeOf(chance),
          }))
        : [];
    const tag = `t${Math.floor(chance() * TAGS)}`;
    return { type, atMs: Math.floor(chance() * WINDOW_MS), tag, at, pick: chance(), blobs };
  });
}

/** Small ones that are held in memory, some of several pieces. */
function sizeOf(chance: () => number): number {
  return chance() < 0.7 ? 1 + Math.floor(chance() * 300_000) : Math.floor(chance() * 3_500_000);
}
