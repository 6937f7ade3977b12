import { type Standing, ungenerated } from '../../src/core/standing.ts';
import { type AcceptorState, type Ballot, EMPTY_ACCEPTOR } from '../../src/register/register.ts';
import type { Member, Message } from './member-steps.ts';
import type { Scope } from './scope.ts';

/** A step that may happen now: its label, what it does, how often chance takes it. */
export type Action = readonly [label: string, run: () => void, weight: number];

export type Kind = 'append' | 'read' | 'rewrite';

export interface Proposer {
  phase: 'idle' | 'prepare' | 'accept' | 'read' | 'outdated';
  at: number;
  counter: number;
  kind: Kind;
  letter: string;
  floor: number;
  epoch: number;
  list: string;
  tries: number;
}

/** What a former owner asked the owners about: its epoch and register then, and who covers that. */
interface Asked {
  readonly epoch: number;
  readonly register: AcceptorState;
  readonly covered: readonly string[];
}

/** Everything there is. Messages and what members keep are never changed in place. */
export interface ModelState {
  readonly members: Map<string, Member>;
  readonly proposers: Proposer[];
  readonly net: Map<string, Message>;
  readonly snapshots: Map<string, Member>;
  readonly generations: Map<string, number>;
  /** By former owner. */
  readonly asked: Map<string, Asked>;
  /** Ballots of which a counted promise made the floor of a member. */
  readonly promised: Map<string, Ballot>;
  readonly used: { wipes: number; setBacks: number; snapshots: number; restarts: number };
  /** The longest list that was answered. */
  floor: string;
  letters: number;
  counter: number;
  ring: { readonly epoch: number; readonly listed: boolean; readonly needed: boolean; rewritten: boolean };
}

export function firstState(scope: Scope): ModelState {
  return {
    members: new Map(
      scope.members.map((id) => [
        id,
        { standing: { ...ungenerated(id), generation: 1 }, register: EMPTY_ACCEPTOR, sequence: 0 },
      ]),
    ),
    proposers: scope.work.map(() => ({
      phase: 'idle',
      at: 0,
      counter: 0,
      kind: 'read',
      letter: '',
      floor: 0,
      epoch: 0,
      list: '',
      tries: 0,
    })),
    net: new Map(),
    snapshots: new Map(),
    generations: new Map(scope.members.map((id) => [id, 1])),
    asked: new Map(),
    promised: new Map(),
    used: { wipes: 0, setBacks: 0, snapshots: 0, restarts: 0 },
    floor: '',
    letters: 0,
    counter: 0,
    ring: { epoch: 0, listed: false, needed: false, rewritten: false },
  };
}

export function copyOf(state: ModelState): ModelState {
  return {
    ...state,
    members: new Map([...state.members].map(([id, member]) => [id, { ...member }])),
    proposers: state.proposers.map((one) => ({ ...one })),
    net: new Map(state.net),
    snapshots: new Map(state.snapshots),
    generations: new Map(state.generations),
    asked: new Map(state.asked),
    promised: new Map(state.promised),
    used: { ...state.used },
    ring: { ...state.ring },
  };
}

export function textOf(state: ModelState): string {
  const { members, proposers, snapshots, asked, promised, used, floor, ring, net } = state;
  const maps = [members, snapshots, asked, promised].map((map) => [...map]);
  return JSON.stringify([maps, proposers, used, floor, ring, [...net.keys()].sort()]);
}

export function send(state: ModelState, message: Message): void {
  state.net.set(JSON.stringify(message), message);
}

/** What a member has on its disk from now on. */
export function keep(member: Member, standing: Standing, register: AcceptorState): void {
  if (standing !== member.standing || register !== member.register) member.sequence += 1;
  Object.assign(member, { standing, register });
}
