/**
 * How long the package waits for sockets and requests; in ms. Callers name waits of their own. Beside these: how far a signed
 * call's date may be off, and so how long a nonce is kept (`sign.ts`).
 */

// Sockets.
/** An idle socket is kept this long by whoever calls. */
export const CLIENT_KEEP_ALIVE_MS = 30_000;
/** Server keep-alive; longer than {@link CLIENT_KEEP_ALIVE_MS}, so that a client never reuses a socket that is being closed. */
export const SERVER_KEEP_ALIVE_MS = 75_000;
/**
 * A pushed manifest without progress for this long is cut; a socket of a listener that carries nothing, for its first request or
 * a later one, after twice as long. There is no limit on the whole request (Harbor sends one 30-minute PUT).
 */
export const IDLE_PROGRESS_MS = 60_000;
/** A client that takes no byte for this long is cut: what it holds is needed by those that read. */
export const UNTAKEN_MS = 60_000;
/** Longest wait of a client that has sent all of its request for the answer to begin: a guard behind the routes' own. */
export const ANSWER_MS = 20 * 60_000;
/** A connection for which there is no descriptor waits this long for its request, to be told so. */
export const REFUSED_MS = 1_000;
/** While connections come the open descriptors are counted this often, sooner only where few were left... */
export const MOST_LOOK_MS = 1_000;
/** ...and never sooner after the last count than this. */
export const LEAST_LOOK_MS = 50;
/** The header of a request comes whole within this. */
export const REQUEST_HEADER_MS = 30_000;

// Calls that name no wait of their own.
/** A server that does not accept a connection within this is silent. */
export const CONNECT_MS = 3_000;
/** Who has several addresses is dialled at the next one, beside the one before, when that did not answer for this long. */
export const NEXT_ADDRESS_MS = 250;
/** An address that accepts connections and then says nothing is dialled after the other addresses for this long. */
export const MUTE_MS = 60_000;
/** Where the addresses of a name were found before, a lookup that takes longer is not waited for. */
export const SLOW_NAME_MS = 300;
/** A name that is not found within this counts as one for which no name server answers; what comes later is remembered. */
export const LOOKUP_MS = 10_000;
/** So long after a member's name was last found its addresses are used while it cannot be looked up. */
export const NAME_KEPT_MS = 60 * 60_000;
/** The same of registries and whom they lead to: who is at an old address need not prove who it is. */
export const FOREIGN_NAME_KEPT_MS = 10 * 60_000;
/** Longest silence of a body that has begun. */
export const BODY_MS = 30_000;

// The log.
/** That the memory of nonces is full is logged once in this time. */
export const TELL_FULL_EVERY_MS = 60_000;
/** A failed TLS handshake with an address, or a name that does not resolve, is logged once in this time. */
export const FAILED_EVERY_MS = 60_000;
/** Which member failed a client is logged, some lines in each of these times. */
export const SAID_MS = 10_000;
