import { type Floor, NO_FLOOR } from '../../src/core/floor.ts';
import type { Entry } from '../../src/core/join.ts';
import { type Sender, type Standing, ungenerated } from '../../src/core/standing.ts';

/** Rules that an experiment drops, to show that the checker sees it. */
export interface SetRules {
  /** Owners take any write, and nobody is told of a later clock. */
  readonly trustsClocks: boolean;
  /** A write that says something new is taken, though a later record hides some of it. */
  readonly newsIsEnough: boolean;
  /** A write is acknowledged though an owner has the same under a later clock, and nothing of this one. */
  readonly sameIsEnough: boolean;
  readonly mixesGenerations: boolean;
  /** A tombstone goes when a majority confirmed it. */
  readonly majorityConfirms: boolean;
  /** A tombstone goes though older messages are under way. */
  readonly messagesOutlive: boolean;
  /** A confirmation counts also for the next generation of who gave it. */
  readonly confirmationOutlives: boolean;
  /** Tombstones go while somebody is handed over to. */
  readonly dropsInHandover: boolean;
  /** A new generation keeps what nobody else has. */
  readonly keepsAlone: boolean;
  /** An owner that does not count is believed that it lacks something. */
  readonly believesAnyone: boolean;
  /** Owners take records from one that does not count. */
  readonly repairsFromAnyone: boolean;
  /** Owners agree on a floor without refusing older writes before. */
  readonly promisesNothing: boolean;
  /** Owners take what is below their floor, whoever has it. */
  readonly forgetsFloor: boolean;
  /** What one has, and another of a higher floor has not, stays. */
  readonly ignoresHigherFloor: boolean;
  /** Who is new to the ring takes floors over before what is above them. */
  readonly takesFloorFirst: boolean;
  /** A garbage collection's tombstones have the record's clock, whatever was promised. */
  readonly buriesBelow: boolean;
  /** A ring change ends though its new owners took nothing over. */
  readonly endsEarly: boolean;
}

export const NO_SET_RULE_DROPPED: SetRules = {
  trustsClocks: false,
  newsIsEnough: false,
  sameIsEnough: false,
  mixesGenerations: false,
  majorityConfirms: false,
  messagesOutlive: false,
  confirmationOutlives: false,
  dropsInHandover: false,
  keepsAlone: false,
  believesAnyone: false,
  repairsFromAnyone: false,
  promisesNothing: false,
  forgetsFloor: false,
  ignoresHigherFloor: false,
  takesFloorFirst: false,
  buriesBelow: false,
  endsEarly: false,
};

/** What may happen in an experiment, and how often. */
export interface SetScope {
  /** What may be written, one after another. */
  readonly writes: readonly ('put' | 'delete' | 'any')[];
  /** How far writers' clocks are off. */
  readonly skews?: readonly number[];
  readonly wipes?: number;
  readonly setBacks?: number;
  readonly kills?: number;
  /** The last owner is removed from the ring, and added again. */
  readonly rejoins?: boolean;
  /** Tombstones go once they are confirmed. */
  readonly drops?: boolean;
  /** Tombstones go below a floor; so often one is looked for. Messages live for ever then. */
  readonly floors?: number;
  /** Garbage collections, each of which takes what an owner has at its own clock. */
  readonly buries?: number;
  /** Rings that follow the first one, A B C, one change after another. */
  readonly rings?: readonly (readonly string[])[];
}

/** What one owner has of the one key there is. */
export interface Owner {
  standing: Standing;
  entry: Entry | undefined;
  floor: Floor;
  /** The floor that another one had, before what it has is taken over. */
  pending: { readonly from: string; readonly generation: number; readonly floor: Floor } | undefined;
  /** Others that lack what its folder had. */
  lacking: readonly string[];
  isIn: boolean;
  /** Of the newest membership that it follows. */
  epoch: number;
  /** Old owners whose records it took over in the ring change of its epoch. */
  pulled: readonly string[];
  /** New to the ring: old owners that know its generation. Undefined for whoever has been there before. */
  noted: readonly string[] | undefined;
}

export interface Write {
  readonly kind: 'put' | 'delete';
  /** A garbage collection: it is made once, at the clock of what it takes. */
  readonly isBurial?: true;
  readonly begunAt: number;
  readonly skew: number;
  tries: number;
  atMs: number;
  /** Of its last try. */
  epoch: number;
  endedAt: number;
  /** Its messages may still arrive. */
  isOpen: boolean;
  isDone: boolean;
}

export type SetMessage =
  | { readonly type: 'put'; readonly write: number; readonly entry: Entry; readonly epoch: number }
  | { readonly type: 'bury'; readonly write: number; readonly atMs: number; readonly epoch: number }
  | {
      readonly type: 'ack';
      readonly write: number;
      readonly atMs: number;
      readonly epoch: number;
      readonly sender: Sender;
      /** The owner has the same under this clock. */
      readonly aheadMs?: number;
    }
  | { readonly type: 'behind'; readonly write: number; readonly atMs: number; readonly behindMs: number }
  | { readonly type: 'offer'; readonly entry: Entry; readonly agreedMs: number };

/** `ring`: the owners when it began. */
export interface Round {
  readonly atMs: number;
  readonly epoch: number;
  readonly ring: readonly string[];
  readonly told: readonly { readonly sender: Sender; readonly text: string }[];
}

export interface SetState {
  readonly owners: Map<string, Owner>;
  readonly net: Map<string, SetMessage>;
  readonly writes: Write[];
  readonly generations: Map<string, number>;
  readonly snapshots: Map<string, Owner>;
  /** By clock of a tombstone: who confirmed it, in which generation. */
  readonly confirmed: Map<number, readonly { readonly id: string; readonly generation: number }[]>;
  /** Clocks of tombstones that may go. */
  readonly gone: Set<number>;
  /** A floor that is looked for: what each owner told since it promised. */
  round: Round | undefined;
  /** Of the membership that was decided last; odd while the ring changes. */
  epoch: number;
  readonly rings: readonly (readonly string[])[];
  readonly used: {
    rounds: number;
    buries: number;
    faults: number;
    kills: number;
    rejoin: 'not' | 'out' | 'in';
  };
  now: number;
}

const FIRST_RING = ['A', 'B', 'C'];

export function firstSetState(later: readonly (readonly string[])[] = []): SetState {
  const owner = (id: string): Owner => ({
    standing: { ...ungenerated(id), generation: 1, settled: true },
    entry: undefined,
    floor: NO_FLOOR,
    pending: undefined,
    lacking: [],
    isIn: true,
    epoch: 0,
    pulled: [],
    noted: undefined,
  });
  return {
    owners: new Map(FIRST_RING.map((id) => [id, owner(id)])),
    net: new Map(),
    writes: [],
    generations: new Map(FIRST_RING.map((id) => [id, 1])),
    snapshots: new Map(),
    confirmed: new Map(),
    gone: new Set(),
    round: undefined,
    epoch: 0,
    rings: [FIRST_RING, ...later],
    used: { rounds: 0, buries: 0, faults: 0, kills: 0, rejoin: 'not' },
    now: 10,
  };
}

/** Owners by a membership, in a ring change the old and the new ones. */
export function setsAt({ rings, owners }: SetState, epoch: number): string[][] {
  const sets = epoch % 2 === 0 ? [rings[epoch / 2]!] : [rings[(epoch - 1) / 2]!, rings[(epoch + 1) / 2]!];
  return sets.map((ids) => ids.filter((id) => owners.get(id)?.isIn));
}

/** Owners in the ring, in a change of it the old and the new ones. */
export function ringOf(state: SetState, epoch = state.epoch): string[] {
  const ids = new Set(setsAt(state, epoch).flat());
  return [...state.owners.keys()].filter((id) => ids.has(id));
}

/** Somebody in the ring is being handed over to. */
export function isOwed(state: SetState): boolean {
  return ringOf(state).some((id) => !state.owners.get(id)!.standing.settled);
}

export function sendSet(state: SetState, message: SetMessage): void {
  state.net.set(JSON.stringify(message), message);
}
