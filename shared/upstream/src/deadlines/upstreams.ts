/**
 * How long the package waits for registries, token services and credential helpers; in ms. What an origin may configure comes by
 * options.
 */

// Registries that are read; where nothing else is said.
/** A registry that does not accept a connection within this is down. */
export const CONNECT_MS = 3_000;
/** The first byte of an answer to a question. */
export const HEADERS_MS = 10_000;
/** Longest silence of a body that has begun. */
export const BODY_MS = 10_000;
/** A body that only trickles is cut after this: another connection may be a better one. Sooner than a silent one, which may be thinking. */
export const TRICKLE_MS = 5_000;
/** What is said beside an answer, why it is an error or where it leads, comes within this, or is done without. */
export const ASIDE_MS = 5_000;
/** A request waits so long for a slot among those at one registry. */
export const QUEUE_MS = 60_000;
/** So many wait for turns as get one within this: who would wait longer is better told at once. */
export const TURN_QUEUE_MS = 5_000;

/** A gateway that could not bring a small question to its registry is asked once more after this: it is often over at once. */
export const HICCUP_MS = 250;
/** A registry that does not answer a HEAD of a manifest within this is asked by GET beside it. */
export const HEAD_SILENT_MS = 1_000;
/** A registry that answered no HEAD of a blob, and its GET, is asked by GET for this long: it may have been a right given meanwhile. */
export const NO_HEAD_MS = 10 * 60_000;

/** A registry whose `/v2/` asks for nothing is not asked again for this long how it wants to be asked. */
export const NO_CHALLENGE_MS = 60_000;

// Registries that are written to.
/** A target that does not accept a connection within this is down. */
export const TARGET_CONNECT_MS = 5_000;
/** The first byte of a target's answer to what is written: a registry hashes a whole blob before it answers its last request. */
export const TARGET_HEADERS_MS = 60_000;
/** The answer to a question at a target, a slot to ask it, and the longest silence of a body. */
export const TARGET_READ_MS = 30_000;
/** A target that refused chunks, and took the same blob in one request, is sent whole blobs for this long. */
export const NO_CHUNKS_MS = 3_600_000;

// Token services.
/** A token that an answer of 404 may be the fault of is believed this long after it was given. */
export const TOKEN_FRESH_MS = 30_000;
/** Credentials that were refused are not shown again for this long, twice as long each time: registries lock accounts. */
export const DENIED_MS = 5_000;
/** The longest that refused credentials are not shown again. */
export const MOST_DENIED_MS = 60_000;

// Credential helpers.
/** A helper that takes longer is killed. */
export const HELPER_MS = 30_000;
/** One that was killed ends within this, or the kernel hangs in it and nobody waits for it. */
export const HELPER_KILLED_MS = 2_000;
/** How long credentials are kept that do not say when they end. */
export const HELPER_KEPT_MS = 5 * 60_000;
/** Shortest time that credentials are kept, whatever they say. */
export const LEAST_HELPER_KEPT_MS = 10_000;
/** Longest time that credentials are kept, whatever they say. */
export const MOST_HELPER_KEPT_MS = 12 * 3_600_000;
/** After a helper failed it is not started again for this long. */
export const HELPER_FAILED_MS = 5_000;
