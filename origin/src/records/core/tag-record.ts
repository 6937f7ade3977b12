import type { Digest } from '@sepia/base/digest';

/** What moved a tag. `delete`: a client or the upstream took it away. `restore`: from a backup. `theirs`: a conflict. */
export type TagMoveKind = 'push' | 'revalidate' | 'set' | 'delete' | 'purge' | 'restore' | 'theirs';

/** Where a tag of the registry behind points: null nowhere, undefined not known. */
export type Behind = Digest | null | undefined;

/** What the registry behind has not heard yet of a tag (mode write-back). */
export interface Owed {
  /** When the first of the changes that it lacks was made. */
  readonly sinceMs: number;
  /** Where the tag pointed there before that. Left out: not known. */
  readonly base?: Digest | null;
  /** Where it was pointed here since: what the registry has of these came from here. The newest last. */
  readonly ours: readonly Digest[];
  /** As a backup said: it may have got there since, and been changed there again. */
  readonly restored?: true;
}

/** One move of a tag, as its history keeps it. */
export interface TagMove {
  /** Where it pointed from then on; left out: it was taken away. */
  readonly digest?: Digest;
  /** Clock of the member that made the move: for people; the order is the list's. */
  readonly atMs: number;
  readonly how: TagMoveKind;
  /** Id of that member. */
  readonly by: string;
}

/** A tag that points somewhere, as its register holds it. Times are of the cluster's date, in ms. */
export interface TagRecord {
  readonly digest: Digest;
  /** When the upstream last confirmed it, or when it was pushed. */
  readonly checkedAtMs: number;
  /** The registry behind still has to hear of it: until then it counts, whatever that says. */
  readonly owed?: Owed;
}

/** Value of a tag's register. A tag that was taken away has no digest, but keeps its history. */
export interface TagState {
  readonly digest?: Digest;
  readonly checkedAtMs: number;
  /** Newest last, at most {@link MAX_HISTORY}. A register of an older version has none. */
  readonly history?: readonly TagMove[];
  /** See {@link TagRecord}; of a tag that was taken away: that it is to go there too. */
  readonly owed?: Owed;
}

/** Moves kept of each tag. */
export const MAX_HISTORY = 50;

/** The record of a tag that points somewhere, else undefined. */
export function recordOf(state: TagState | undefined): TagRecord | undefined {
  if (state?.digest === undefined) return undefined;
  const { digest, checkedAtMs, owed } = state;
  return { digest, checkedAtMs, ...(owed === undefined ? {} : { owed }) };
}

/** True of a tag that was taken away here and that the registry behind may still have. */
export function isTakenAway(state: TagState | undefined): boolean {
  return state !== undefined && state.digest === undefined && state.owed !== undefined;
}

/** The state after a move; the same digest again is no move, only a confirmation. */
export function moved(state: TagState | undefined, move: TagMove & { readonly digest: Digest }): TagState {
  const history = state?.digest === move.digest ? (state.history ?? []) : withMove(state, move);
  return { digest: move.digest, checkedAtMs: move.atMs, history };
}

/** The state after the tag was taken away; the same state if it was not there. */
export function takenAway(state: TagState | undefined, move: Omit<TagMove, 'digest'>): TagState | undefined {
  if (state?.digest === undefined) return state;
  return { checkedAtMs: move.atMs, history: withMove(state, move) };
}

/**
 * A changed state that the registry behind has to hear of; `before`: what it was changed from, `behind`: what that
 * registry was just seen to have, else what was known counts. While it owes already, what was there before the first
 * change counts; of a tag that was taken away in between that, or nothing, where the delete got there.
 */
export function owing(before: TagState | undefined, changed: TagState, behind: Behind): TagState {
  const known = behind === undefined && before !== undefined ? (before.digest ?? null) : behind;
  const first = before?.owed === undefined ? known : before.owed.restored ? behind : before.owed.base;
  const isBack = isTakenAway(before) && typeof first === 'string';
  const base = isBack ? null : first;
  const pushed = changed.digest === undefined ? [] : [changed.digest];
  const ours = [...(isBack ? [first] : []), ...(before?.owed?.ours ?? []), ...pushed];
  const sinceMs = before?.owed?.sinceMs ?? changed.checkedAtMs;
  const owed: Owed = { sinceMs, ours: [...new Set(ours.reverse())].slice(0, MAX_HISTORY).reverse() };
  return { ...changed, owed: base === undefined ? owed : { ...owed, base } };
}

/** The registry behind has what `seen` says (nothing: the tag is gone there): nothing is owed, unless that is another by now. */
export function paid(
  state: TagState | undefined,
  seen: Digest | undefined,
  atMs: number,
): TagState | undefined {
  if (state?.owed === undefined) return state;
  const { owed: before, ...rest } = state;
  if (state.digest === seen) return { ...rest, checkedAtMs: atMs };
  // It moved on meanwhile: what is there now came from here.
  const { restored: _, ...owed } = before;
  return { ...rest, owed: { ...owed, base: seen ?? null } };
}

/** The registry behind was just seen to have lost a tag that is `digest` here: it is owed that again. */
export function owedAgain(state: TagState | undefined, digest: Digest): TagState | undefined {
  if (state === undefined || state.digest !== digest) return state;
  const { owed } = owing(state, state, null);
  return { ...state, owed: { ...owed!, base: null } };
}

/**
 * True if a write-back that just put `seen` at the registry behind replaced the digest that is here: another origin had
 * brought that one there, so nothing was owed for it any more.
 */
export function isReplaced(state: TagState | undefined, seen: Digest | undefined): boolean {
  return state !== undefined && state.owed === undefined && state.digest !== seen;
}

/** The registry behind wins a conflict: the tag is what it has there (null: gone), if it still is what lost. */
export function yielded(
  state: TagState | undefined,
  lost: Digest | undefined,
  won: Digest | null,
  move: Omit<TagMove, 'digest' | 'how'>,
): TagState | undefined {
  if (state?.owed === undefined || state.digest !== lost) return state;
  const { owed: _owed, ...rest } = state;
  return won === null
    ? takenAway(rest, { ...move, how: 'theirs' })
    : moved(rest, { ...move, how: 'theirs', digest: won });
}

/**
 * What a register holds after a backup's state was put into it: the backup's if nothing is there or its last move is
 * later, else what is there. Putting the same one back twice changes nothing. What it owed may have been paid since.
 */
export function restored(state: TagState | undefined, backup: TagState): TagState {
  if (state !== undefined && lastMoveMs(backup) <= lastMoveMs(state)) return state;
  return backup.owed === undefined ? backup : { ...backup, owed: { ...backup.owed, restored: true } };
}

function lastMoveMs(state: TagState): number {
  return state.history?.at(-1)?.atMs ?? state.checkedAtMs;
}

function withMove(state: TagState | undefined, move: TagMove): readonly TagMove[] {
  const before = state?.history ?? firstMove(state);
  return [...before, move].slice(-MAX_HISTORY);
}

/** What a register of an older version tells of its past: where it pointed. */
function firstMove(state: TagState | undefined): readonly TagMove[] {
  if (state?.digest === undefined) return [];
  return [{ digest: state.digest, atMs: state.checkedAtMs, how: 'push', by: 'unknown' }];
}
