/**
 * How far an origin is with the first start of its cluster. `new`: its folder never held records. `noted`: durably
 * knows that every configured origin was new. `member`: it takes part.
 */
export type FirstStart = 'new' | 'noted' | 'member';

/** What another origin says of itself; `silent` if it does not answer. */
export type FirstStartAnswer = FirstStart | 'silent';

/** What an origin whose folder is new does next. */
export type FirstStartStep =
  /** Note durably that all are new. */
  | 'note'
  /** Take part, with nothing. */
  | 'open'
  /** Some have records: these hand over. */
  | 'handover'
  /** Somebody has not answered yet. */
  | 'wait';

/**
 * `New → Noted → Member`. An origin that noted goes on saying `new` in effect: only `member` means that it may hold
 * something. One that lost its disk after a push finds members and is handed over to; it can never found a second
 * cluster, since those who noted open only when all have noted, or one is open.
 */
export function firstStartStep(
  own: Exclude<FirstStart, 'member'>,
  others: readonly FirstStartAnswer[],
): FirstStartStep {
  if (own === 'noted') {
    const isFounded = others.every((one) => one === 'noted' || one === 'member');
    return isFounded || others.includes('member') ? 'open' : 'wait';
  }
  if (others.includes('member')) return 'handover';
  return others.every((one) => one === 'new' || one === 'noted') ? 'note' : 'wait';
}
