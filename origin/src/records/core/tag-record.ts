import type { Digest } from '@sepia/base/digest';

/** What moved a tag. `delete`: a client or the upstream took it away. `restore`: from a backup. */
export type TagMoveKind = 'push' | 'revalidate' | 'set' | 'delete' | 'purge' | 'restore';

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

/** A tag that points somewhere. */
export interface TagRecord {
  readonly digest: Digest;
  /** When the upstream last confirmed it, or when it was pushed. */
  readonly checkedAtMs: number;
}

/** Value of a tag's register. A tag that was taken away has no digest, but keeps its history. */
export interface TagState {
  readonly digest?: Digest;
  readonly checkedAtMs: number;
  /** Newest last, at most {@link MAX_HISTORY}. A register of an older version has none. */
  readonly history?: readonly TagMove[];
}

/** Moves kept of each tag. */
export const MAX_HISTORY = 50;

/** The record of a tag that points somewhere, else undefined. */
export function recordOf(state: TagState | undefined): TagRecord | undefined {
  return state?.digest === undefined ? undefined : { digest: state.digest, checkedAtMs: state.checkedAtMs };
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
 * What a register holds after a backup's state was put into it: the backup's if nothing is there or its last move is
 * later, else what is there. Putting the same one back twice changes nothing.
 */
export function restored(state: TagState | undefined, backup: TagState): TagState {
  if (state === undefined) return backup;
  return lastMoveMs(backup) > lastMoveMs(state) ? backup : state;
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
