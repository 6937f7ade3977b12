/**
 * How long the command line waits, by whom for: one table, in ms. What spans services is in shared/cluster/src/deadlines.ts.
 */

// Members of the cluster, as an operator.
/** A call that names no wait of its own. */
export const CALL_MS = 30_000;
/** An origin that does not tell the membership within this is passed over; a proxy that does not tell its status is not running. */
export const RING_MS = 3_000;
/** A member that does not accept a connection within this is down. */
export const CONNECT_MS = 2_000;
/** A change of the ring is agreed on by a quorum of origins. */
export const CHANGE_MS = 30_000;
/** A terminal is told who has not answered for so long. */
export const WAIT_TOLD_MS = 3_000;
/** What runs in the cluster is looked at this often while a command waits for it. */
export const LOOK_EVERY_MS = 500;
/** A queue that nobody works on is told of after this. */
export const QUEUE_IDLE_MS = 30_000;
/** An origin that is to lead it and says nothing for so long is passed over. */
export const GC_LEADER_MS = 10_000;
/** The leader asks all others before it says that it began. */
export const GC_BEGIN_MS = 60_000;
/** The origin that leads it may be silent for this long. */
export const GC_SILENT_MS = 15_000;
/** Work that is done before the answer: the whole of a purge, a run over a rule of replication. */
export const WORK_MS = 600_000;
/** A page of records is on the disks of a quorum before the answer. */
export const RESTORE_MS = 120_000;
/** A backup that was cut is gone on with for so long after it was begun; then what it has is too old, and all is read anew. */
export const RESUME_MS = 6 * 3_600_000;

// Members that this machine runs (`sepia up`, `sepia demo`).
/** A role's sources are loaded and compiled within this, or its member does it. */
export const COMPILE_MS = 30_000;
/** A member that starts is ready within this. */
export const READY_MS = 60_000;
/** How often it is looked whether a started member is ready. */
export const READY_POLL_MS = 100;
/** One question whether a member is ready is answered within this. */
export const PROBE_MS = 2_000;
/** A port of this machine accepts at once, or nobody listens. */
export const LOCAL_CONNECT_MS = 1_000;
/** Longer than a member's own drain by default (10 s). */
export const STOP_GRACE_MS = 15_000;
/** A member that died is started again after this, doubling up to the next. */
export const RESTART_FIRST_MS = 500;
/** Longest pause before a member that dies again and again is started. */
export const RESTART_MAX_MS = 30_000;
/** How often logs are looked at. */
export const LOG_LOOK_MS = 10_000;
/** An agent's metrics, or a snapshotter's status: figures from memory. */
export const METRICS_MS = 5_000;
/** A command of the system that is asked about this node. */
export const COMMAND_MS = 20_000;

// Registries and Harbor.
/** Agents hold headers back while a cold blob is fetched; bodies never stand still for long. */
export const COLD_BLOB_MS = 600_000;
/** Longest silence of a body that has begun. */
export const BODY_MS = 60_000;
/** A registry that failed before any byte of a blob came is asked again after this, doubling up to the next. */
export const PULL_REST_MS = 200;
/** Longest pause before a blob is asked for again. */
export const MAX_PULL_REST_MS = 2_000;
/** A token service, which may ask a slow directory of users. */
export const TOKEN_MS = 60_000;
/** A token service that does not accept a connection within this is down. */
export const TOKEN_CONNECT_MS = 5_000;
/** A tracker answers within a minute, or says 503. */
export const TORRENT_MS = 70_000;
/** Harbor's API. */
export const HARBOR_MS = 30_000;
/** A trial of what was set up: an upload that Harbor's robot begins, a question to the face that Harbor sees. */
export const HARBOR_PROBE_MS = 10_000;

// The terminal.
/** Progress is drawn again this often: the eye sees it move. */
export const DRAW_EVERY_MS = 80;
