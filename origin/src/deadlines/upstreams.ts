/**
 * How long the origin waits for upstreams: registries, their token services, and backends. In ms. What is configured
 * (`deadlines`) is not here.
 */

// Registries: what clients read.
/** The upstream may take this long for a tag, or for who may read, when what is on record could be served instead. */
export const REVALIDATE_MS = 3_000;
/** Once it began to answer, a manifest comes within this. */
export const MANIFEST_BODY_MS = 5_000;
/** A registry says within this which digest a tag has, for a look that nobody waits for. */
export const RECHECK_MS = 5_000;
/** The leader is asked to look at a tag: longer than it waits for the upstream. */
export const RECHECK_LEADER_MS = RECHECK_MS + 2_000;
/** A manifest that is asked for only so that the registry notes a pull. */
export const PULL_TIME_MS = 10_000;
/** One image after another, with this pause between: never a burst upstream. */
export const PULL_TIME_PAUSE_MS = 1_000;
/** The upstream may take this long for its list of referrers. */
export const LIST_MS = 10_000;
/** The upstream may take this long for its whole list. */
export const TAG_LIST_MS = 15_000;
/** So long its further pages come from the list that was read for one before: read anew for each, 100,000 tags would be read a thousand times. */
export const TAG_LIST_KEEP_MS = 10_000;
/** Before a purge: whether the upstream still has it. */
export const PURGE_ASK_MS = 10_000;

// Registries: whether a blob is theirs.
/** Before a manifest is stored: whether what it names is kept, and has links that the upstream confirms. */
export const NEEDED_MS = 15_000;
/** Longest question whether a name has what came by another. */
export const PROOF_MS = 15_000;
/** Longest question at the upstream whether it has a blob: some fetch it first. */
export const CONFIRM_MS = 60_000;
/** Longest that an upstream sends a body that is compared: the largest layers, on the slowest of lines that they are pulled over. */
export const DELIVERY_MS = 6 * 3_600_000;
/** What an upstream failed with is told again for this long: each try may be a whole body. */
export const DELIVERY_FAILED_MS = 10_000;

// Registries: fetching blobs.
/** A fetch that failed in passing is tried again after this, doubling up to the next. */
export const FETCH_RETRY_MS = 100;
/** Longest pause between two tries; `deadlines.fetch-progress` ends them. */
export const MAX_FETCH_RETRY_MS = 2_000;
/** Longest pause that an upstream, or a member on its behalf, is believed to ask for. */
export const MOST_ASKED_MS = 600_000;
/** A fetch's progress is looked at this often. */
export const FETCH_TICK_MS = 250;
/** Time that the swarm gets for pieces that agents hold before the upstream is asked. */
export const SWARM_GRACE_MS = 2_000;
/** How long it is remembered that an upstream lied about a blob. */
export const LIE_MS = 30_000;
/** How long clients may hold the beginning of a blob that came out wrong (docs/operations.md, "How a body ends"). */
export const DISTRUST_MS = 24 * 3_600_000;
/** How long a size that did not fit is not believed. */
export const SIZE_DOUBT_MS = 24 * 3_600_000;
/** A connection in the background stands still for those that readers wait for at most this long: upstreams end idle ones. */
export const MAX_YIELD_MS = 5_000;
/** While it stands still it looks this often whether any reader still waits. */
export const YIELD_LOOK_MS = 20;
/** A blob, wherever it comes from, is read for its torrent for this long at most. */
export const TORRENT_MS = 60 * 60_000;

// Who may read, by what the registry says.
/** Longest question at an upstream: up to three requests (refused, the token, with it), each with a limit of its own. */
export const ACCESS_MS = 60_000;
/** How long it is believed that everybody may read a repository. */
export const PUBLIC_MS = 5 * 60_000;
/** While the upstream does not answer, what was public is told for so much longer at a time. */
export const STALE_TTL_MS = 10_000;
/** How long credentials that the upstream accepted are believed; never beyond their own life. */
export const GRANTED_MS = 60_000;
/** Who asks twice in a row (containerd: for the HEAD and for the GETs) gets the same token: one check for both. */
export const SAME_TOKEN_MS = 30_000;
/** How long it is believed that nobody may without credentials: for clients that ask twice in a row. */
export const PRIVATE_MS = 5_000;
/** An upstream says within this what `/v2/` asks for. */
export const BASE_ASK_MS = 10_000;
/** How long it is believed what `/v2/` asks for. */
export const BASE_MS = 10 * 60_000;
/** How long it is believed that `/v2/` did not answer. */
export const BASE_FAILED_MS = 3_000;
/** Before a password goes to the token service, the registry is asked where that is, unless it said so within this. */
export const REALM_MS = 10_000;
/** Credentials of a client are forgotten after this at the latest. */
export const SESSION_MS = 10 * 60_000;
/** A repository is written down again after this. */
export const PUBLIC_WRITE_MS = 10 * 60_000;

// Backends: pushed blobs that are written there.
/** What the leader owes to a backend is looked at by the other owners after this, then ever more seldom. */
export const BACKEND_LOOK_MS = 1_000;
/** A blob that the leader did not write within this is written by whoever has it. */
export const BACKEND_TAKE_OVER_MS = 300_000;
/** A blob that a backend did not take is written again after this, doubling up to the next. */
export const BACKEND_RETRY_MS = 1_000;
/** Longest pause before it is written again. */
export const MAX_BACKEND_RETRY_MS = 60_000;
/** With nothing owed nothing is looked at, beside a look for what is on record, this often. */
export const BACKEND_REST_MS = 60_000;
/** Least rest between two turns: others' work gets its turn. */
export const MIN_BACKEND_REST_MS = 50;
/** After a turn that failed for another reason than a backend. */
export const BACKEND_FAILED_MS = 1_000;
/** What writers left half is looked for this often. */
export const BACKEND_TIDY_MS = 3_600_000;
/** What writers left half, and nobody goes on with, is removed after this. */
export const BACKEND_HALF_MS = 24 * 3_600_000;
/** Whether a backend belongs to this cluster is looked at again after this. */
export const BACKEND_OWNED_MS = 600_000;
/** A backend deletes one blob within this; what it does not delete waits for the next collection. */
export const BACKEND_DELETE_MS = 8_000;
/** Clocks of origins and backend may be this far apart. */
export const BACKEND_SKEW_MS = 3_600_000;

// The registry behind, to which pushes are brought.
/** Whether a registry lists referrers itself is asked again after this: it may have been upgraded. */
export const REFERRERS_API_MS = 600_000;
/** A push waits so long for the registry behind. */
export const BEHIND_MS = 1_000;
/** A registry behind that was silent is not asked again for so long. */
export const BEHIND_REST_MS = 10_000;
/** Pushed blobs are looked for at the registry behind this often, the first time so soon. */
export const ARRIVAL_LOOK_MS = 2_000;
/** A blob that is not there is looked for again after this, doubling up to the next. */
export const ARRIVAL_RETRY_MS = 15_000;
/** Longest pause between two looks for one blob. */
export const MAX_ARRIVAL_RETRY_MS = 3_600_000;
/** Least rest between two looks. */
export const MIN_ARRIVAL_LOOK_MS = 1_000;
/** The registry says whether it has a blob within this. */
export const ARRIVAL_MS = 15_000;
/** A registry that does not answer is not asked for this long. */
export const ARRIVAL_AWAY_MS = 30_000;
/** What did not fit is read from record this often: each such reading asks the registry for all that it brings. */
export const ARRIVAL_READ_MS = 300_000;
/** Noted tags are looked at this often. */
export const TAG_LOOK_MS = 2_000;
/** All tags are looked through again after this. */
export const TAG_WHOLE_MS = 3_600_000;
/** All tags are looked through again sooner while some could not be read: after this, doubling up to the next. */
export const TAG_UNFINISHED_MS = 5_000;
/** Longest time until they are looked through again while some could not be. */
export const MAX_TAG_UNFINISHED_MS = 600_000;

// Targets of replication.
/** The queue is looked through this often; a copy that another origin runs is looked at again after up to twice as long. */
export const SCAN_MS = 1_000;
/** An empty queue is looked through this often: a new job is told at once, so that none waits for this look. */
export const EMPTY_SCAN_MS = 30_000;
/** A long queue is looked through this often at most. */
export const LONG_SCAN_MS = 10_000;
/** The wait after the second failure where there is none after the first. */
export const AFTER_NONE_MS = 1_000;
/** A request waits so long for a slot at its target: bodies before it may be large. */
export const TARGET_QUEUE_MS = 24 * 3_600_000;
/** A piece that is to be sent to a target is here within this: it may still be fetched. */
export const REPLICA_PIECE_MS = 60_000;
/** Ends of jobs are kept for this long: an owner that was away longer brings a job back, which finds everything there. */
export const JOB_TOMBSTONE_MS = 24 * 3_600_000;
