import { canonicalJson } from '../core/join.ts';

/** Order of proposals: by counter, then by proposer. Each is used for one value only. */
export interface Ballot {
  readonly counter: number;
  readonly proposer: string;
}

/** A JSON value; `undefined` stands for a register that was never written. */
export type RegisterValue = unknown;

/** What one acceptor keeps of one register. `v` is the record's schema. */
export interface AcceptorState {
  readonly v: 1;
  readonly promised: Ballot;
  /** {@link NO_BALLOT} while nothing was accepted. */
  readonly accepted: Ballot;
  readonly value?: RegisterValue;
  /** `accepted` was handed over below a higher promise: no proof of agreement until a round settles it. */
  readonly heard?: true;
}

/** What a proposer asks of an acceptor of a register: to read, to promise (`prepare`), or to accept. */
export type RegisterRequest = {
  readonly key: string /** Of the membership; left out: 0. */;
  readonly epoch?: number;
} & (
  | { readonly type: 'read' }
  | { readonly type: 'prepare'; readonly ballot: Ballot }
  | { readonly type: 'accept'; readonly ballot: Ballot; readonly value?: RegisterValue }
);

/** What an acceptor answers. `refused` names the higher ballot that was promised. */
export type RegisterReply =
  | {
      readonly type: 'state';
      readonly accepted: Ballot;
      readonly value?: RegisterValue;
      /** See {@link AcceptorState}: it counts in a prepare, not in a read of one round. */
      readonly heard?: true;
    }
  | { readonly type: 'accepted' }
  | { readonly type: 'refused'; readonly promised: Ballot }
  /** The membership changed: the round begins anew under this epoch. */
  | { readonly type: 'outdated'; readonly epoch: number };

/** Lower than every ballot of a proposer. */
export const NO_BALLOT: Ballot = Object.freeze({ counter: 0, proposer: '' });

/** Negative if `a` is lower than `b`, 0 if they are the same. */
export function compareBallots(a: Ballot, b: Ballot): number {
  return a.counter - b.counter || (a.proposer < b.proposer ? -1 : a.proposer > b.proposer ? 1 : 0);
}

/** An acceptor that never heard of the register: it promised nothing. */
export const EMPTY_ACCEPTOR: AcceptorState = Object.freeze({
  v: 1,
  promised: NO_BALLOT,
  accepted: NO_BALLOT,
});

/**
 * One step of an acceptor (CASPaxos, Rystsov 2018). If `next` differs from `state` it must be durable before the reply
 * leaves.
 *
 * ```
 * prepare b > promised:  promised = b           → state
 * accept  b ≥ promised:  promised = accepted = b → accepted
 * read:                                         → state
 * ```
 *
 * `isShared`: several members answer for this one acceptor, so each of them brings the same prepare. It is a promise that
 * stands already: no other proposer has that ballot, and its accept is refused or accepted as before.
 */
export function acceptorStep(
  state: AcceptorState,
  request: RegisterRequest,
  { isShared }: { readonly isShared: boolean } = { isShared: false },
): { next: AcceptorState; reply: RegisterReply } {
  switch (request.type) {
    case 'read':
      return { next: state, reply: stateReply(state) };
    case 'prepare': {
      const order = compareBallots(request.ballot, state.promised);
      if (order < 0 || (order === 0 && !isShared)) return refuse(state);
      const next = order === 0 ? state : { ...state, promised: request.ballot };
      return { next, reply: stateReply(next) };
    }
    case 'accept': {
      const { ballot, value } = request;
      if (compareBallots(ballot, state.promised) < 0) return refuse(state);
      const kept = value === undefined ? {} : { value };
      return { next: { v: 1, promised: ballot, accepted: ballot, ...kept }, reply: { type: 'accepted' } };
    }
  }
}

/**
 * What an acceptor keeps after another owner handed its state of the register over: the higher promise and the higher
 * accept. A handed-over accept below the promise is marked as heard.
 */
export function handedOver(state: AcceptorState, from: AcceptorState): AcceptorState {
  const newest = compareBallots(from.accepted, state.accepted) > 0 ? from : state;
  const promised = [state.promised, from.promised, newest.accepted].reduce((a, b) =>
    compareBallots(a, b) >= 0 ? a : b,
  );
  const kept = newest.value === undefined ? {} : { value: newest.value };
  const isHeard = newest.accepted.counter > 0 && compareBallots(newest.accepted, promised) < 0;
  return { v: 1, promised, accepted: newest.accepted, ...kept, ...(isHeard ? { heard: true } : {}) };
}

/**
 * What an acceptor takes from another owner in repair, by its own rules: a higher promise, an accept that is not below
 * its promise. `isWhole` is false if an accept is left that only a round can settle.
 */
export function repaired(
  state: AcceptorState,
  from: AcceptorState,
): { next: AcceptorState; isWhole: boolean } {
  let next = state;
  const isLater = compareBallots(from.accepted, state.accepted) > 0;
  const mayAccept = isLater && compareBallots(from.accepted, state.promised) >= 0;
  if (mayAccept) {
    const kept = from.value === undefined ? {} : { value: from.value };
    next = { v: 1, promised: from.accepted, accepted: from.accepted, ...kept };
  }
  if (compareBallots(from.promised, next.promised) > 0) next = { ...next, promised: from.promised };
  return { next, isWhole: !isLater || mayAccept };
}

/**
 * True if an owner with `own` accepted what a former owner with `from` did, or something later: what `from` says is
 * needed no more. A promise alone says nothing: it belongs to an epoch that is over. ADR 0071.
 */
export function isCovered(own: AcceptorState, from: AcceptorState): boolean {
  const order = compareBallots(own.accepted, from.accepted);
  return order > 0 || (order === 0 && canonicalJson(own.value ?? null) === canonicalJson(from.value ?? null));
}

/** The value of the highest accepted ballot among promises of a majority: what a change must build on. */
export function newestValue(
  states: readonly { readonly accepted: Ballot; readonly value?: RegisterValue }[],
): RegisterValue {
  let newest: { readonly accepted: Ballot; readonly value?: RegisterValue } | undefined;
  for (const state of states) {
    if (newest === undefined || compareBallots(state.accepted, newest.accepted) > 0) newest = state;
  }
  return newest?.value;
}

/**
 * A read of one round: if a quorum of the answers names the same accepted ballot, its value is chosen, and nothing
 * newer was acknowledged before the read began (any majority that did so would share a member). Else undefined.
 */
export function agreedState<
  S extends { readonly accepted: Ballot; readonly value?: RegisterValue; readonly heard?: true },
>(states: readonly S[], isQuorum: (agreeing: readonly S[]) => boolean): S | undefined {
  const told = states.filter(({ heard }) => heard !== true);
  return told.find((one) =>
    isQuorum(told.filter((other) => compareBallots(one.accepted, other.accepted) === 0)),
  );
}

/** The ballot after all that were seen. */
export function nextBallot(seenCounter: number, proposer: string): Ballot {
  return { counter: seenCounter + 1, proposer };
}

function stateReply(state: AcceptorState): RegisterReply {
  return {
    type: 'state',
    accepted: state.accepted,
    ...(state.value === undefined ? {} : { value: state.value }),
    ...(state.heard === true ? { heard: true } : {}),
  };
}

function refuse(state: AcceptorState): { next: AcceptorState; reply: RegisterReply } {
  return { next: state, reply: { type: 'refused', promised: state.promised } };
}
