/**
 * How long the package waits for buckets and folders that keep blobs; in ms.
 */
/** A backend that does not accept a connection within this is down. */
export const CONNECT_MS = 3_000;
/** Longest time for one call; bodies that are read behind it have their own deadline. */
export const CALL_MS = 600_000;
/** A call waits so long for a slot among those at one bucket. */
export const SLOT_MS = 60_000;
/** A bucket that was found is believed to be there for so long. */
export const BUCKET_MS = 60_000;
/** Between two looks for what was written just now, doubling up to the next. */
export const FIRST_LOOK_MS = 250;
/** Longest wait between two such looks. */
export const MAX_LOOK_MS = 2_000;
/** Between two tries of one part, doubling up to the next. */
export const FIRST_PART_MS = 250;
/** Longest wait between two tries of one part. */
export const MAX_PART_MS = 4_000;
/** An upload that failed is taken back within this; what stays is tidied later. */
export const ABORT_MS = 10_000;
