/**
 * How long the package waits for owners of registers and for PostgreSQL; in ms.
 */

// Owners of registers.
/** A register that finds no majority is tried for so long, where the caller says nothing else. */
export const REGISTER_MS = 10_000;
/** An owner that does not answer a request within this is silent in that round. */
export const REGISTER_REQUEST_MS = 2_000;
/** A prepare goes to a quorum only; the other owners are asked, too, when one of the quorum is silent for this long. */
export const REGISTER_HEDGE_MS = 100;
/** Before a round that another proposer disturbed is tried again, doubling up to the next. */
export const REGISTER_REST_MS = 10;
/** Longest rest before a round that was disturbed is tried again. */
export const MAX_REGISTER_REST_MS = 500;
/** A read waits so long for the remaining owners when a majority answered but does not agree. */
export const REGISTER_GRACE_MS = 50;

// Workers.
/** A worker that took a job has to renew or end it within this. */
export const HOLD_MS = 60_000;
/** A job that failed waits no longer for its next try. */
export const MAX_JOB_WAIT_MS = 3_600_000;
/** Members' clocks may be apart so much; a time to come that is further was noted under a clock that was wrong. */
export const CLOCKS_APART_MS = 60_000;

// PostgreSQL.
/** What was asked is tried again for so long: shorter than callers wait. */
export const DATABASE_DEADLINE_MS = 8_000;
/** Replaces DATABASE_DEADLINE_MS while the database is known to be away: callers have other ways, or answer 503. */
export const DOWN_DEADLINE_MS = 500;
/** A connection that is not made within this is given up. */
export const CONNECT_MS = DATABASE_DEADLINE_MS / 2;
/** A try gets at least this, while there is as much. */
export const LEAST_TRY_MS = 1_500;
/**
 * The server itself ends a statement after this: longer than anybody here waits for it. A commit that waits for a
 * synchronous standby is acknowledged when it is ended so, though no standby has it.
 */
export const SERVER_LIMIT_MS = DATABASE_DEADLINE_MS * 2;
/** What was decided by keys that were read beside is not written later than this after they were read. */
export const LATE_MS = 20_000;
/** What failed in passing is asked again after this, doubling up to the next. */
export const RETRY_MS = 20;
/** Longest pause before what failed in passing is asked again. */
export const MAX_RETRY_MS = 400;
/** A database that is away is asked at most this often whether it is back. */
export const MAX_RETURN_MS = 1_000;
/** An idle connection is closed after this. */
export const IDLE_MS = 30_000;
/** The listening connection is asked this often whether it lives: what it misses nobody else tells. */
export const WATCH_POLL_MS = 5_000;
/** A connection that does not end orderly within this is cut. */
export const WATCH_END_MS = 1_000;
/** A listening connection that broke is made again after this, doubling up to the next. */
export const WATCH_RETRY_MS = 200;
/** Longest pause before it is made again. */
export const MAX_WATCH_RETRY_MS = 5_000;
