/**
 * How long the tracker waits, by whom for: one table, in ms. What spans services is in shared/cluster/src/deadlines.ts.
 */

// Origins.
/** An origin that does not say within this what it has counts as silent; measured between the two. */
export const LEAST_SILENCE_MS = 900;
/**
 * Most of {@link LEAST_SILENCE_MS}, while origins are slow to answer; also how long one origin is waited for when it is
 * looked at.
 */
export const MOST_SILENCE_MS = 4_000;
/** Least slack over the wait of a long poll until it has failed, whatever else is known; at most `MOST_SILENCE_MS`. */
export const LEAST_POLL_SLACK_MS = 1_200;
/**
 * Least slack over the wait of a long poll until, beside it, all origins are asked what they have: more than a living leader
 * usually needs.
 */
export const LEAST_LATE_MS = 150;
/** Most of {@link LEAST_LATE_MS}, where answers are slow. */
export const MOST_LATE_MS = 600;
/** A leader that is late is waited for so long with that question at least, while the others answer; at most `MOST_SILENCE_MS`. */
export const LEAST_GRACE_MS = 600;
/** Metainfo that an origin has on disk; where it may ask the upstream first, `FIRST_ANSWER_MS.origin`. */
export const METAINFO_MS = 10_000;
/**
 * News of an open blob are told after this at the latest, by how many wait for them: sooner, with the way to it, than an agent asks
 * whether we are there (1 s), or each answer would cost one more question.
 */
export const MOST_NEWS_GAP_MS = 800;
/** Between two packets of an answer with news of an open blob: it is written at once. */
export const POLL_BODY_MS = 5_000;
/** Wait of one poll at the leader; short, so that one that hangs is noticed within about a second. */
export const POLL_MS = 300;
/** A look-up that somebody waits for begins after this at the latest: with others, where some are under way. */
export const GATHER_AWAITED_MS = 10;
/** One that nobody waits for begins after this at the latest: much less than the time for which its link is believed still. */
export const GATHER_RENEWED_MS = 100;
/** An origin of the version before, which is not asked for several links at once, is tried again after this. */
export const WORDS_AGAIN_MS = 10 * 60_000;
/** Pause before origins are asked once more: those that had it are stopping, or just died. */
export const ASK_AGAIN_MS = 200;
/** Time that a blob may stay without any origin that goes on with it. */
export const ORPHAN_MS = 30_000;
/** One origin is asked this often whether it answers; longer than `MOST_SILENCE_MS`, so that looks do not overlap. */
export const LOOK_MS = 5_000;
/** All of them may be silent this long until `/readyz` says so: two looks. */
export const PATIENCE_MS = 2 * LOOK_MS;

// Nodes.
/** Least pause between heartbeats of a node that somebody watches: people who look see it move. */
export const MIN_WATCHED_MS = 1_000;
/** While pieces are lacking, a node joins again after this; later in a big swarm. */
export const MIN_REJOIN_MS = 3_000;
/** A blob of which only ranges are wanted is followed until no node asked about it for this long. */
export const RANGES_IDLE_MS = 30_000;
/** Leases that ended are looked for this often: a node is gone within a second of its lease. */
export const EXPIRE_EVERY_MS = 1_000;
/** A revocation is kept for nodes that beat late: many times the longest heartbeat. */
export const REVOCATION_KEPT_MS = 15 * 60_000;
/** The page shows a swarm for so long after a node had all of it: whoever opens the page after a pull still sees it. */
export const ENDED_SHOWN_MS = 10 * 60_000;
/** Requests that run may take this long when the tracker stops; any other tracker answers what is cut. */
export const STOP_GRACE_MS = 3_000;

// Strangers: standard BitTorrent clients, and the origins that answer for them.
/** Longest that a client is left without an answer: most wait for a minute. */
export const ANNOUNCE_MS = 55_000;
/** An origin reads the whole blob for its torrent, and says after 45 s that it is not done. */
export const FACTS_MS = 60_000;
/** Telling a member to open a swarm is small work. */
export const OPEN_CALL_MS = 4_000;
/** How long members let strangers in after they were told; they are told again in a third of it. */
export const OPEN_MS = 60_000;
/** Newcomers are told to origins after this at the earliest, so that they are dialled if they cannot dial. */
export const NEWS_MS = 3_000;
/** After its torrent was asked for, a swarm is open for so long without an announce. */
export const FRESH_MS = 10 * 60_000;
/** While no origin answers, what they allowed is believed for so long. */
export const STALE_MS = 10 * 60_000;
/** A name of a peer is looked up again after this; also one that was not found. */
export const NAME_KEPT_MS = 60_000;
