/**
 * What an error of the database means for what was asked. `contended`: another change came between, at once again.
 * `silence`: nobody answered, or not the primary: again on a new connection. `refusal`: asking again changes nothing.
 */
export type DatabaseFailure = 'contended' | 'silence' | 'refusal';

/** SQLSTATE (PostgreSQL, appendix A): another transaction came between. */
const CONTENDED: ReadonlySet<string> = new Set(['40001', '40P01', '55P03']);
/** The server does not know how it ended. */
const UNKNOWN = '40003';
/** The server stops, starts, is a standby, cancelled a statement that took too long. */
const AWAY: ReadonlySet<string> = new Set(['57P01', '57P02', '57P03', '57P05', '57014', '25006', '72000']);
/** Classes: connection exception, insufficient resources, system error. */
const AWAY_CLASSES: ReadonlySet<string> = new Set(['08', '53', '58']);

/** `state`: the error's SQLSTATE; undefined where it is not the database that says it. Pure. */
export function databaseFailure(state: string | undefined): DatabaseFailure {
  if (state === undefined) return 'silence';
  if (CONTENDED.has(state)) return 'contended';
  return state === UNKNOWN || AWAY.has(state) || AWAY_CLASSES.has(state.slice(0, 2)) ? 'silence' : 'refusal';
}

/** Of what the server says itself while it is away: the transaction is undone. */
const UNDONE: ReadonlySet<string> = new Set(['57014', '57P03', '25006']);

/** True if a statement that ended so may have been committed, or may be yet: its answer is lost. Pure. */
export function mayBeDone(state: string | undefined): boolean {
  return databaseFailure(state) === 'silence' && !(state !== undefined && UNDONE.has(state));
}
