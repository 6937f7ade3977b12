import { majorityOf } from '../../src/core/majority.ts';
import { admitEpoch, grant, type Sender, type Standing, takeOver } from '../../src/core/standing.ts';
import {
  type AcceptorState,
  acceptorStep,
  type Ballot,
  compareBallots,
  EMPTY_ACCEPTOR,
  handedOver,
  repaired,
} from '../../src/register/register.ts';
import type { Rules } from './scope.ts';

/** What one owner has on its disk. */
export interface Member {
  standing: Standing;
  register: AcceptorState;
  /** Changes so far. */
  sequence: number;
}

export type Message =
  | {
      readonly type: 'prepare' | 'accept';
      readonly ballot: Ballot;
      readonly list?: string;
      readonly epoch: number;
    }
  | { readonly type: 'read'; readonly round: string; readonly epoch: number }
  | { readonly type: 'offer'; readonly from: AcceptorState; readonly epoch: number }
  | { readonly type: 'wanted'; readonly id: string; readonly generation: number }
  | {
      readonly type: 'handed';
      readonly id: string;
      readonly generation: number;
      readonly source: Sender & { readonly epoch: number };
      readonly register: AcceptorState;
    }
  | { readonly type: 'recorded'; readonly id: string; readonly generation: number }
  | Reply;

export interface Reply {
  readonly type: 'reply';
  readonly to: string;
  readonly epoch: number;
  readonly sender: Sender;
  readonly accepted: Ballot;
  readonly value?: unknown;
  readonly heard?: true;
}

/** A message that an owner answers by its own state alone. */
type Request = Extract<Message, { type: 'prepare' | 'accept' | 'read' | 'offer' }>;

/** What a step leaves at a member, and what it answers. */
interface Outcome {
  readonly standing: Standing;
  readonly register: AcceptorState;
  readonly answer?: Reply;
}

/** What a request does at a member; undefined if it is not taken. */
export function requestStep(member: Member, message: Request, rules: Rules): Outcome | undefined {
  const { standing: before, register } = member;
  if (!before.settled && !rules.answersEarly) return undefined;
  const standing = admitEpoch(before, message.epoch) ?? (rules.takesOldEpoch ? before : undefined);
  if (standing === undefined) return undefined;
  if (message.type === 'offer') {
    const { next } = rules.plainRepair
      ? { next: plainRepair(register, message.from) }
      : repaired(register, message.from);
    return JSON.stringify(next) === JSON.stringify(register) ? undefined : { standing, register: next };
  }
  const state =
    rules.forgetsPromise && message.type === 'accept'
      ? { ...register, promised: EMPTY_ACCEPTOR.promised }
      : register;
  const { next, reply } = acceptorStep(
    state,
    message.type === 'read'
      ? { type: 'read', key: 'k' }
      : message.type === 'prepare'
        ? { type: 'prepare', key: 'k', ballot: message.ballot }
        : { type: 'accept', key: 'k', ballot: message.ballot, value: message.list },
  );
  if (reply.type === 'refused' || reply.type === 'outdated') return undefined;
  const { type: _, ...facts } =
    reply.type === 'state' ? reply : { type: 'accepted', accepted: next.accepted };
  const to =
    message.type === 'read'
      ? message.round
      : `${message.type} ${message.ballot.proposer} ${message.ballot.counter}`;
  const answer: Reply = { type: 'reply', to, epoch: message.epoch, sender: senderOf(standing), ...facts };
  return { standing, register: rules.forgetsPromise && message.type === 'prepare' ? register : next, answer };
}

/** What a source records and hands over to a new generation; undefined if it refuses. */
export function handOverStep(
  source: Member,
  asker: Standing,
  wanted: Extract<Message, { type: 'wanted' }>,
  rules: Rules,
): { readonly standing: Standing; readonly message: Message } | undefined {
  if (wanted.generation !== asker.generation ? !rules.unorderedGenerations : asker.settled) return undefined;
  const { standing } = source;
  const granted = grant(rules.anySource ? { ...standing, kept: true } : standing, wanted);
  let next: Standing;
  if (granted.type === 'granted') next = { ...granted.next, kept: standing.kept };
  else if (granted.type === 'outdated' && rules.unorderedGenerations)
    next = { ...standing, known: { ...standing.known, [wanted.id]: wanted.generation } };
  else return undefined;
  const recorded = rules.recordsLater ? standing : next;
  const { settled: _, kept: __, handed: ___, ...sender } = recorded;
  return {
    standing: recorded,
    message: { ...wanted, type: 'handed', source: sender, register: source.register },
  };
}

/** What a new generation keeps of what was handed over. */
export function takeOverStep(
  member: Member,
  message: Extract<Message, { type: 'handed' }>,
  setsOf: (epoch: number) => readonly (readonly string[])[],
  rules: Rules,
): Outcome {
  const { source } = message;
  const epoch = rules.keepsEpoch ? member.standing.epoch : Math.max(member.standing.epoch, source.epoch);
  const sets = setsOf(epoch);
  const wanted = rules.handoverOf === 'old' ? [sets[0]!] : rules.handoverOf === 'new' ? [sets.at(-1)!] : sets;
  let standing = takeOver(member.standing, { ...source, epoch }, wanted);
  if (rules.skipsOwner && !standing.settled)
    standing = { ...standing, settled: isOneShort(standing, wanted) };
  const { register } = member;
  const from: AcceptorState = rules.losesAccepted
    ? { v: 1, promised: message.register.promised, accepted: EMPTY_ACCEPTOR.accepted }
    : message.register;
  const taken = handedOver(register, from);
  return { standing, register: rules.losesPromised ? { ...taken, promised: register.promised } : taken };
}

export function senderOf({ id, generation, known }: Standing): Sender {
  return { id, generation, known };
}

function plainRepair(register: AcceptorState, from: AcceptorState): AcceptorState {
  return compareBallots(from.accepted, register.accepted) > 0
    ? { ...register, accepted: from.accepted, value: from.value }
    : register;
}

function isOneShort(standing: Standing, sets: readonly (readonly string[])[]): boolean {
  return sets.every((owners) => {
    const needed = owners.length - majorityOf(owners.length);
    return owners.filter((id) => standing.handed.includes(id)).length >= needed;
  });
}
