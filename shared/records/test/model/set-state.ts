import { type Floor, NO_FLOOR } from '../../src/core/floor.ts';
import type { Entry } from '../../src/core/join.ts';
import { type Sender, type Standing, ungenerated } from '../../src/core/standing.ts';

/** Rules that an experiment drops, to show that the checker sees it. */
export interface SetRules {
  /** Owners take any write, and nobody is told of a later clock. */
  readonly trustsClocks: boolean;
  /** A write that says something new is taken, though a later record hides some of it. */
  readonly newsIsEnough: boolean;
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
}

export const NO_SET_RULE_DROPPED: SetRules = {
  trustsClocks: false,
  newsIsEnough: false,
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
}

export interface Write {
  readonly kind: 'put' | 'delete';
  readonly begunAt: number;
  readonly skew: number;
  tries: number;
  atMs: number;
  endedAt: number;
  /** Its messages may still arrive. */
  isOpen: boolean;
  isDone: boolean;
}

export type SetMessage =
  | { readonly type: 'put'; readonly write: number; readonly entry: Entry }
  | { readonly type: 'ack'; readonly write: number; readonly atMs: number; readonly sender: Sender }
  | { readonly type: 'behind'; readonly write: number; readonly atMs: number; readonly behindMs: number }
  | { readonly type: 'offer'; readonly entry: Entry; readonly agreedMs: number };

/** `ring`: the owners when it began. */
export interface Round {
  readonly atMs: number;
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
  readonly used: { rounds: number; faults: number; kills: number; rejoin: 'not' | 'out' | 'in' };
  now: number;
}

export function firstSetState(): SetState {
  const ids = ['A', 'B', 'C'];
  const owner = (id: string): Owner => ({
    standing: { ...ungenerated(id), generation: 1, settled: true },
    entry: undefined,
    floor: NO_FLOOR,
    pending: undefined,
    lacking: [],
    isIn: true,
  });
  return {
    owners: new Map(ids.map((id) => [id, owner(id)])),
    net: new Map(),
    writes: [],
    generations: new Map(ids.map((id) => [id, 1])),
    snapshots: new Map(),
    confirmed: new Map(),
    gone: new Set(),
    round: undefined,
    used: { rounds: 0, faults: 0, kills: 0, rejoin: 'not' },
    now: 10,
  };
}

/** Owners in the ring. */
export function ringOf(state: SetState): string[] {
  return [...state.owners].filter(([, { isIn }]) => isIn).map(([id]) => id);
}

/** Somebody in the ring is being handed over to. */
export function isOwed(state: SetState): boolean {
  return ringOf(state).some((id) => !state.owners.get(id)!.standing.settled);
}

export function sendSet(state: SetState, message: SetMessage): void {
  state.net.set(JSON.stringify(message), message);
}
