/**
 * How long the doors wait for origins, and how long they believe what they were told; in ms.
 */

// Origins, and the upstreams behind them.
/** What `/v2/` of the upstream asks for is waited for this long at most. */
export const BASE_MS = 2_000;
/** A positive answer is believed this long at most, whatever the origin says. */
export const MAX_GRANTED_MS = 60_000;
/** That everybody may read is believed this long at most, whatever the origin says. */
export const MAX_PUBLIC_MS = 5 * 60_000;

// Clients and their tokens.
/** Life of a token that is given to whoever does not log in. */
export const ANONYMOUS_MS = 5 * 60_000;
/** How long it is remembered which upstream gave a token. */
export const BINDING_MS = 60 * 60_000;
/** A token that does not say when it ends is believed this long at most, by whoever does not know it otherwise. */
export const UNKNOWN_END_MS = 10_000;

// Logins that failed.
/** After the failures that are free the next login waits for this, doubling up to one of the next two. */
export const FIRST_LOGIN_PAUSE_MS = 1_000;
/** Longest pause of one account at one address, and of one address. */
export const LOGIN_PAUSE_MS = 60_000;
/** Longest pause of one account, from wherever: slowed, never locked, or anybody could lock out anybody. */
export const ACCOUNT_PAUSE_MS = 5_000;
/** Without another failure for this long all is forgotten. */
export const LOGIN_FORGET_MS = 10 * 60_000;
/** How long a right password spares an account from what others do wrong. */
export const LOGIN_KNOWN_MS = 7 * 24 * 60 * 60_000;
/**
 * A password that was right does not wait for this long, whoever guesses beside it: all processes of a node have one
 * address, and one that guesses must not keep its pulls out.
 */
export const LOGIN_RIGHT_MS = 24 * 60 * 60_000;
