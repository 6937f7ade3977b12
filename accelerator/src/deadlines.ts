/**
 * How long the accelerator waits, by whom for: one table, in ms. What spans services is in shared/cluster/src/deadlines.ts.
 */

// The queue of conversions, which proxies keep.
/** The queue is asked this often while a worker is free, or somebody watches. */
export const LOOK_EVERY_MS = 2_000;
/** A call about the queue: a proxy writes its registers at a quorum of origins. */
export const QUEUE_MS = 20_000;
/** A job is held for a minute: three of these may fail. */
export const RENEW_MS = 15_000;
/** A scan that found the queue full is repeated after this. */
export const FULL_AGAIN_MS = 300_000;
/** The queue may be silent for so long before this accelerator is not ready. */
export const PATIENCE_MS = 30_000;

// Proxies: what is read and stored.
/** A cold blob comes from the upstream first. */
export const BLOB_MS = 120_000;
/** Longest silence of a body that has begun. */
export const BODY_MS = 60_000;
/** A record of a layer, or of a start: a proxy asks origins for it. */
export const RECORD_MS = 30_000;
/** An index goes to the disks of a quorum of origins before the answer comes. */
export const STORE_MS = 120_000;
/** A page of the catalog or of tags; the origins may have to ask an upstream. */
export const LIST_MS = 60_000;
/** What names an image as its subject. */
export const REFERRERS_MS = 20_000;
/** An index that is offered: what takes longer to come is made sooner. */
export const OFFER_MS = 60_000;

// Clients.
/** A conversion that takes longer goes on, without the client. */
export const SYNC_MS = 3_600_000;
/** A line without meaning after so long without another: nobody in between takes the connection for dead. */
export const ALIVE_MS = 15_000;
/** A client that was cut comes back after so long. */
export const COME_BACK_MS = 3_000;
/** Requests that run may take this long when the accelerator stops. */
export const STOP_GRACE_MS = 3_000;
