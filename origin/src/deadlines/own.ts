/**
 * How long the origin waits for clients, for its own disk and database, and how often it does its own rounds. In ms.
 */

// Clients: uploads and readers.
/** A session without a byte ends after this much silence: clients send the first chunk at once. */
export const EMPTY_IDLE_MS = 5 * 60_000;
/** Where all places are taken, one without a byte makes room after this much silence. */
export const EMPTY_YIELDS_MS = 2_000;
/** Idle uploads are looked for this often. */
export const UPLOAD_SWEEP_MS = 5_000;
/** Whoever reads piece by piece comes again within this. */
export const READER_LEFT_MS = 2_000;
/** Where swarms hold open what would be evicted, those that nobody asked about for this long are left. Trackers ask again sooner. */
export const TIGHT_IDLE_MS = 90_000;
/** A fetch for ranges alone ends when nobody read for this long. */
export const LINGER_MS = 60_000;
/** A blob that is read for longer than this is asked for again: the tracker's client waits about a minute. */
export const STRANGER_ANSWER_MS = 45_000;
/** A swarm is open to strangers for this long at most without being opened again. */
export const MAX_STRANGER_MS = 10 * 60_000;
/** Longest search or write for a removal; what is not done within this says how far it came: callers wait 30 s. */
export const REMOVAL_MS = 20_000;
/** Longest grace that an operator may ask for: a year. */
export const MAX_GRACE_MS = 366 * 24 * 3_600_000;

// Its own disk and database.
/** A database that nobody answers for at the start is waited for so long. */
export const DATABASE_START_MS = 30_000;
/** A database that cannot be claimed is tried again after this, doubling up to the next. */
export const CLAIM_RETRY_MS = 200;
/** Longest pause before it is tried again. */
export const MAX_CLAIM_RETRY_MS = 5_000;
/** Copies that were made are taken off the disk together after this: one more is made again if that is lost. */
export const HINT_FORGET_MS = 500;
/** A link that was written this long ago is written again when a push asks for it. */
export const LINK_TOUCH_MS = 3_600_000;

// Rounds.
/** Least time between two passes over tombstones, which is a part of the grace. */
export const MIN_TOMBSTONES_MS = 1_000;
/** Longest time between two passes over tombstones. */
export const MAX_TOMBSTONES_MS = 3_600_000;
/** Before the first pass after the start, at most. */
export const FIRST_TOMBSTONES_MS = 60_000;
/** The schedule of collections is looked at this often. */
export const SCHEDULE_LOOK_MS = 60_000;
/** One that could not begin, as while an origin is away, is tried again after this. */
export const SCHEDULE_AGAIN_MS = 600_000;
