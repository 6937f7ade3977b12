import type { Digest } from '@sepia/base/digest';
import type { Owed } from '../../records/core/tag-record.ts';

/** Who wins when a tag was changed at the registry behind while a change of it waited here. */
export type OnConflict = 'ours' | 'theirs' | 'stop';

/** An operator's decision on one push: who wins its conflict, or `drop`: it is given up. */
export type Take = 'ours' | 'theirs' | 'drop';

/** What is done about one tag that awaits write-back. */
export type TagStep =
  /** The registry behind has the same: nothing to do. */
  | { readonly type: 'there' }
  /** It is put, or deleted; `over`: the change there that is lost by that. */
  | { readonly type: 'put' | 'delete'; readonly over?: Digest | null }
  /** The registry wins: here it becomes what it is there, or goes. */
  | { readonly type: 'yield'; readonly to: Digest | null }
  /** Nothing is changed before an operator says who wins. */
  | { readonly type: 'stop'; readonly found: Digest | null };

/**
 * What to do about a tag: `wanted` is where it points here (null: taken away), `found` where it points at the registry
 * (null: it does not have it). What came from here, or was there before the first change that waits, is no conflict;
 * where that is not known, whatever is there is one, unless the push wins anyway. What only a backup says is owed may have
 * got there and been replaced since: it goes over nothing, and yields to what nobody here ever put there, before somebody
 * says so. A delete takes nothing away there that
 * was never known here, unless an operator says so: `take`, who wins this conflict; `drop`: the registry, in any case.
 */
export function tagStep(
  tag: { readonly wanted: Digest | null; readonly found: Digest | null; readonly owed: Owed },
  onConflict: OnConflict,
  take?: Take,
): TagStep {
  const { wanted, found, owed } = tag;
  if (found === wanted) return { type: 'there' };
  if (take === 'drop') return { type: 'yield', to: found };
  const act = wanted === null ? 'delete' : 'put';
  const isOurs = found !== null && owed.ours.includes(found);
  const isAsBefore = owed.base === undefined ? found === null : found === owed.base;
  const isKnown = isOurs || isAsBefore;
  if (owed.restored === true && take === undefined) {
    if (found === null) return { type: act };
    return !isKnown && onConflict === 'theirs' ? { type: 'yield', to: found } : { type: 'stop', found };
  }
  if (isKnown) return { type: act };
  const policy = take ?? onConflict;
  if (policy === 'theirs') return { type: 'yield', to: found };
  if (policy === 'stop') return { type: 'stop', found };
  if (wanted === null && owed.base === undefined && take === undefined) return { type: 'yield', to: found };
  return owed.base === undefined ? { type: act } : { type: act, over: found };
}
