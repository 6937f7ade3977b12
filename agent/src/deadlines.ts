import { COMPLAINT_MS } from '@sepia/cluster/deadlines';

/**
 * How long the agent waits, by whom for: one table, in ms. What spans services is in shared/cluster/src/deadlines.ts; what clients
 * wait for a body is configured (`deadlines`); what the swarm's wire and peers are given, in shared/swarm/src/limits.ts.
 */

// Any member: whether it is there.
/** A member may think about a call for so long before it is asked anything, where its silence says nothing yet; so may all whom one needs. */
export const ASK_AFTER_MS = 1_500;
/** A member that thinks about a call is asked something small this often: each node asks, of all who wait. */
export const ASK_EVERY_MS = 5_000;
/** A member that answered any call within this is not asked whether it is there; nor is any of a vigil while one of them did. */
export const HEARD_MS = 1_000;
/** Until a small question counts as unanswered, or all count as silent: a busy member, or a busy node, is late by seconds. */
export const ASK_MS = 5_000;
/** A member that answers no small question for this long is given up. */
export const GONE_MS = 4_500;
/** Where another member answers as well, one is doubted that is so late with a small question; up to `GONE_MS`, by how fast members answer them. */
export const LEAST_LATE_MS = 500;
/** A small question that failed at once is asked again after this. */
export const ASK_AGAIN_MS = 500;
/** A member that failed to answer is tried last for this long. */
export const SILENT_REST_MS = 5_000;
/** Members of a vigil are asked this far apart: the first answer is enough. */
export const VIGIL_NEXT_MS = 50;
/** Nobody may answer for so long until all count as silent; up to `ASK_MS`, by how fast they answer. */
export const LEAST_SILENT_MS = 3_000;
/** While one of them answers, all are asked this often. */
export const VIGIL_EVERY_MS = 3_000;
/** Silent ones are asked on for so long after the last request that needs them: the next one knows at once. */
export const VIGIL_LINGER_MS = 10_000;

// Origins and proxies: what is asked of them. The next is asked beside one that is silent for as long as its hedge.
/** A silent origin or tracker is passed over after this. */
export const HEDGE_MS = 800;
/** A proxy that is silent for this long is passed over. */
export const PROXY_HEDGE_MS = 500;
/** A proxy that is silent for this long is passed over for manifests, for which it may ask origins and they an upstream. */
export const MANIFEST_HEDGE_MS = 1_000;
/** A member that is silent for this long is passed over when it is asked who may read. */
export const ACCESS_HEDGE_MS = 1_000;
/** What the agent found out alone is believed for this long. */
export const OWN_TTL_MS = 60_000;
/** Whether a name is an account of the cluster is believed for this long. */
export const OWN_ACCOUNT_MS = 30_000;
/** One piece from an origin: it may have to fetch it from the upstream first. */
export const PIECE_MS = 20_000;
/** Between two packets of a piece: an origin that sends it has it. */
export const PIECE_BODY_MS = 5_000;
/** What an origin got so far of a blob that it fetches; silence counts as nothing. */
export const WHERE_MS = 2_000;
/** The cluster is asked for so long; then what the cache has is served. */
export const LINK_MS = 3_000;
/** For a right copy of a damaged piece that nobody waits for. */
export const MEND_MS = 30_000;
/** Long-poll for more hashes. */
export const POLL_MS = 10_000;
/** An origin ends a long-poll in time, or counts as silent after this. */
export const POLL_ANSWER_MS = POLL_MS + 1_500;
/** Without news for so long, by how fast it came so far, whoever tells it must show that it is there. */
export const LEAST_DOUBT_MS = 300;
/** Most of {@link LEAST_DOUBT_MS}: a member that hangs costs this much to all who pull the blob. */
export const MOST_DOUBT_MS = 1_000;
/** A complaint is sent within this: longer than the member has for it. */
export const COMPLAINT_WAIT_MS = COMPLAINT_MS + 1_000;
/** While no tracker answers, owners are asked again after this. */
export const DIRECT_INTERVAL_MS = 2_000;
/** An origin that was asked to fetch out of order, and failed, is asked again after this. */
export const URGE_AGAIN_MS = 200;
/** How long a reader waits before the origin is asked to fetch out of order. */
export const URGE_AFTER_MS = 50;

// The upstream, where the whole cluster is silent.
/** An upstream that is asked whether a client may read says so within this. */
export const ASK_UPSTREAM_MS = 10_000;

// Trackers.
/** Heartbeat until a tracker names another, and after the first failure. */
export const FIRST_HEARTBEAT_MS = 2_000;
/** While swarms run, people who look see them move: this often where the tracker does not say. */
export const WATCHED_HEARTBEAT_MS = 1_000;
/** A tracker that asks for a longer pause is not heeded: leases would end unnoticed. */
export const MAX_HEARTBEAT_MS = 60_000;
/** Longest pause: the longest heartbeat, spread. */
export const MAX_PAUSE_MS = 1.25 * MAX_HEARTBEAT_MS;
/** A tracker that fails is tried again within this. */
export const MAX_RETRY_MS = 10_000;
/** Least lease that is asked for: many heartbeats of a node that is watched. */
export const MIN_LEASE_MS = 25_000;
/** After a bug of ours the next heartbeat is sent after this. */
export const BEAT_AGAIN_MS = 2_000;
/** After a swarm began, so that what begins at once is told at once. */
export const POKE_MS = 100;
/** A tracker keeps leases in memory: one that does not answer a heartbeat within this counts as silent. */
export const LEASE_MS = 3_000;
/** A farewell holds up the end of the process; without it the lease runs out. */
export const FAREWELL_MS = 500;
/** Trackers may be silent this long until `/readyz` says so. */
export const PATIENCE_MS = 15_000;
/** Longest pause between two joins that a tracker is believed. */
export const MAX_FIND_MS = 3_600_000;
/** A download from the upstream alone has nobody to find: it looks again this seldom. */
export const NO_TRACKER_MS = 3_600_000;
/** A tracker opens a swarm for this long at most. */
export const MAX_OPEN_MS = 10 * 60_000;

// Peers and readers: a download looks at itself.
/** Progress is looked at this often. */
export const WATCH_EVERY_MS = 500;
/** Between two looks for peers at least, and to see whether somebody wants them sooner. */
export const FIND_AGAIN_MS = 200;
/** Nothing came for so long, and nobody has news: peers are looked for again. */
export const QUIET_MS = 1_500;
/** A download for ranges alone ends when nobody read for this long; what came stays on disk. */
export const RANGES_IDLE_MS = 60_000;
/** An open file is closed after this idle time, so that seeding never keeps a blob from eviction. */
export const IDLE_CLOSE_MS = 2_000;
/** A finished download stays visible for this long. */
export const SHOW_ENDED_MS = 5_000;

// This node: its disk, commands, and the end of the process.
/** How long a digest that came out wrong is distrusted (docs/operations.md, "How a body ends"). */
export const DISTRUST_MS = 24 * 3_600_000;
/** After a second failure it is answered without a look for this long; then one more fetch is tried. */
export const REFUSE_MS = 60_000;
/** After the disk was full nothing is stored for this long. */
export const FULL_MS = 5_000;
/** Tags that were read are written to disk together after this. */
export const WRITE_DELAY_MS = 500;
/** A blob that failed in passing is tried again after this, each time so much later. */
export const PREFETCH_RETRY_MS = 1_000;
/** Progress of a command is reported this often at most. */
export const PROGRESS_EVERY_MS = 500;
/** Requests that run may take this long when the agent stops. */
export const STOP_GRACE_MS = 5_000;

// The node's snapshotter, and proxies on its behalf.
/** A proxy answers about indexes, profiles and conversions within this; they come from the records of origins. */
export const LAZY_CALL_MS = 5_000;
/** Without a snapshotter the records are asked for behind the pull. */
export const BEHIND_MS = 60_000;
/** A preheat goes on with the layers so long after `lazy-wait`, whatever became of showing its images. */
export const AHEAD_MS = 10_000;
/** An image is put into the queue of indexing once in this time. */
export const ASKED_MS = 10 * 60_000;
/** A config is held back so long while it is not known whether the image would show another's layer. */
export const DOUBT_MS = 60_000;
/** One wait for the snapshotter's next word. */
export const OFFER_MS = 10_000;
/** A snapshotter that gave no answer, or is overloaded, is asked again after this. */
export const OFFER_AGAIN_MS = 500;
/** A refused image is named in the log, and to the snapshotter, once in this time: its puller comes again. */
export const REFUSED_MS = 60_000;
/** Between two polls a snapshotter is still there. */
export const GAP_MS = 3_000;
