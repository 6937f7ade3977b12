/**
 * How long the store waits for its disk, and how often it looks after it; in ms. What a service configures comes by
 * options; how a scrub spreads its reads is `core/scrub-plan.ts`.
 */

// The disk, when it is full or does not answer.
/** How much is free is looked at this often while room is needed, or there is none. */
export const ROOM_LOOK_MS = 1_000;
/**
 * How often free room is looked at while nobody needs any: what others write to the disk is still seen, and told by
 * `/readyz`.
 */
export const UNUSED_ROOM_LOOK_MS = 10_000;
/** After a write that found no room, no blob is begun for this long: others take it. */
export const FULL_MS = 10_000;
/** A blob that is refused alone for its size is logged at most this often. */
export const SHORT_LOG_MS = 60_000;
/** Between two tries to open a database anew. */
export const REOPEN_MS = 1_000;
/** How long writes under way, and lists that are being read, may hold a new opening up; then the lists end with an error. */
export const READERS_MS = 5_000;

// Looking after what is there.
/** Partials are looked through, and the budget is, this often. */
export const KEEP_HOUSE_MS = 600_000;
/** Which pieces of a partial are there is written to disk after this; what is lost is fetched again. */
export const MAP_DELAY_MS = 1_000;
/** When a blob was used is written down once in this time: eviction needs it no finer. */
export const ACCESS_GRAIN_MS = 3_600_000;
/** A partial that nobody goes on with is removed after this. */
export const PARTIAL_MS = 24 * 3_600_000;
/** The place of a pass is written this often: a killed process looks at so much once more. */
export const KEEP_PLACE_MS = 300_000;
/** After a pass that could not go on (the disk does not answer). */
export const SCRUB_FAILED_MS = 60_000;
/** What could not be mended is tried again after this, doubling up to the next. */
export const SCRUB_RETRY_MS = 60_000;
/** Longest pause between two tries to mend it. */
export const MAX_SCRUB_RETRY_MS = 3_600_000;
