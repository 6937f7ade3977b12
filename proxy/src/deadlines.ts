/**
 * How long the proxy waits, by whom for: one table, in ms. What spans services is in shared/cluster/src/deadlines.ts.
 */

// Origins: whether they live.
/** Each origin is probed this often. */
export const PROBE_EVERY_MS = 1_000;
/**
 * While nobody had work for origins for {@link QUIET_MS} each is probed this often: a member that does nothing wakes the others
 * seldom. Shorter than `PATIENCE_MS` of health by more than two probes: one that fails silences no origin.
 */
export const QUIET_PROBE_EVERY_MS = 3 * PROBE_EVERY_MS;
/** A proxy that made no call to origins for this long counts as idle. */
export const QUIET_MS = 10_000;
/** An origin that answered anything within this is not probed: an idle one is asked every other round. */
export const HEARD_MS = 1.5 * PROBE_EVERY_MS;
/** An origin that does not answer a probe within this counts as silent; shorter than the time between two probes. */
export const PROBE_MS = 800;
/** A fetching origin that thinks is probed this often; a probe without an answer means that it is gone. */
export const ATTEND_EVERY_MS = 250;
/** A stager that answers nothing for this long is lost. */
export const STAGER_SILENT_MS = 5_000;
/** An origin counts as alive while it answered anything within this; an idle one is probed every other round. */
export const ALIVE_MS = 4 * PROBE_EVERY_MS;

// Origins: what clients read.
/** An origin that does not say within this what it has counts as silent. */
export const WHERE_MS = 800;
/** When all were silent they are asked once more, with more patience: the machine may be busy. */
export const WHERE_AGAIN_MS = 3_000;
/** Once one whole copy is known, other answers are waited for this long: they are who is asked next. */
export const WHERE_GRACE_MS = 25;
/** Answers about who has the blob are waited for this long once one has it, when another source is looked for. */
export const RESUME_GRACE_MS = 200;
/** Who has a blob, and its leaf hashes, are questions that others join for this long: one that hangs is not for all who come. */
export const JOIN_MS = 1_000;
/** Whoever has the whole blob must begin to answer within this, else the next is asked beside it. */
export const HOLDER_HEDGE_MS = 400;
/** A fetching origin may think long (it has its own deadline of 10 s without progress). */
export const LEADER_MS = 120_000;
/** Longest silence of a body: undici's guard of the socket; our own looks at its progress are sooner. */
export const BODY_MS = 60_000;
/** Without progress at any origin for this long a blob of which no byte was sent fails. */
export const PROGRESS_MS = 10_000;
/** An answer to a long-poll may be this late. */
export const POLL_SLACK_MS = 2_000;
/**
 * Until the first byte an origin has its own deadline and says what failed. One that makes progress is waited for: a piece may take
 * that long where the upstream sends 1.2 KB a second. In ms.
 */
export const FIRST_PIECE_MS = 15 * 60_000;
/** The next origin is asked beside a silent one after this, for what it can answer by itself. */
export const HEDGE_MS = 500;
/** As `HEDGE_MS`, for what an origin may have to gather from others, or ask a slow upstream for: lists, and who may read. */
export const SLOW_HEDGE_MS = 1_000;
/** One origin's answer with a page of the catalog or of tags: it may ask the upstream for its list. */
export const LIST_MS = 20_000;
/** One origin's answer with referrers: it may ask the upstream for its list. */
export const REFERRERS_MS = 25_000;
/** A manifest of an image that is preheated; an origin may have to fetch it first. */
export const MANIFEST_MS = 30_000;
/** An origin may have to ask the upstream whether the repository has the layer. */
export const PROVE_MS = 20_000;

// Origins: what is written.
/** A manifest that is stored on a quorum within this is stored. */
export const MANIFEST_WRITE_MS = 30_000;
/** An origin that records a delete on a quorum and tells the others needs less than this. */
export const DELETE_MS = 30_000;
/** Copying and syncing a large blob to its owners may take this long after its last byte. */
export const UPLOAD_END_MS = 15 * 60_000;
/** A small body is waited for so long before it is sent as it comes. */
export const GATHER_MS = 50;
/** Calls about an upload that carry no body: to begin one, to ask how far it is, to end it. */
export const UPLOAD_CALL_MS = 4_000;
/** An upload that failed is cancelled in passing; its stager ends it by itself when it is idle. */
export const UPLOAD_CANCEL_MS = 1_000;
/** Copies of an index on a quorum of origins' disks. */
export const STORE_MS = 60_000;
/** One origin's part in a register of Harbor's jobs and events. */
export const RECORD_REQUEST_MS = 1_500;
/** As {@link RECORD_REQUEST_MS}, of an origin that may only be slow: once in each read or write. */
export const RECORD_PATIENT_MS = 4_000;
/** A read or write of such a register as a whole: several attempts, while origins come back. */
export const RECORD_MS = 15_000;
/** Longest rest between two attempts. */
export const RECORD_REST_MS = 1_000;
/** Origins ask the upstream first. */
export const PURGE_ORIGIN_MS = 20_000;
/** An origin that is told of a pushed or deleted tag asks the upstream for it. */
export const REFRESH_MS = 20_000;

// Clients.
/** How often it is looked whether the body of a request still comes. */
export const WATCH_EVERY_MS = 250;
/** A request that was refused before its end is read on this long, so that the client sees the answer. */
export const DRAIN_MS = 5_000;
/** A body is judged by what came in so many ms in which its client was waited for. */
export const WINDOW_MS = 10_000;
/** How often it is looked at how much of each body came. */
export const PUSH_LOOK_MS = WINDOW_MS / 4;
/** A request waits this long at most for its turn. */
export const TURN_MS = 5_000;
/** A right password is not computed again for this long; at once again when its line in the file changes. */
export const REMEMBER_MS = 60_000;
/** The file of accounts is looked at this often at most. */
export const RELOAD_MS = 2_000;
/** A name that is gone from the file still counts as the cluster's own for this long. */
export const FORMER_MS = 60 * 60_000;

// Other proxies, and the status page.
/** Accounts are compared with other proxies' so soon after the start. */
export const AGREEMENT_FIRST_MS = 2_000;
/** How often accounts are compared after that: a file that was forgotten at one proxy is named within this time. */
export const AGREEMENT_EVERY_MS = 30_000;
/** A proxy that does not say within this what accounts it has is asked the next time. */
export const AGREEMENT_MS = 2_000;
/** Another proxy only forgets what it has in memory. */
export const PURGE_PROXY_MS = 3_000;
/** A member that does not answer within this is shown as down. */
export const STATUS_MS = 400;
/** A view is handed out again for this long: many browsers cost no more than one. */
export const STATUS_KEPT_MS = 300;
/** Requests at the admin listener may take this long when the proxy stops. */
export const ADMIN_GRACE_MS = 1_000;

// Harbor.
/** Harbor waits 3 s for an answer. */
export const ACCEPT_MS = 2_500;
/** Harbor gives up after 30 s: it is told before that how far things are. */
export const KRAKEN_ANSWER_MS = 25_000;
/** What nobody waits for any more ends by then: preheats that Harbor or a webhook asked for. */
export const PREHEAT_MS = 30 * 60_000;
/** Harbor asks for 1801 s: a job says before that what became of it. */
export const JOB_MS = 29 * 60_000;
/** A job's end is told for this long (Harbor asks for half an hour). */
export const JOB_KEPT_MS = 3_600_000;
/** A job that nobody ended is forgotten after this. */
export const JOB_FORGOTTEN_MS = 2 * JOB_KEPT_MS;
/** A hold that was not renewed for this long is void. */
export const JOB_HOLD_MS = 20_000;
/** A proxy renews its hold of a job this often: three renewals may fail. */
export const JOB_RENEW_MS = JOB_HOLD_MS / 4;
/** A hold or a wait that ends later than any could by this much was set under a clock that was wrong: it holds nothing. */
export const CLOCKS_APART_MS = 60_000;
/** A proxy that took an event has to renew or end it within this. */
export const EVENT_TAKEN_MS = 60_000;
/** How often a proxy renews an event that it took: two renewals may fail. */
export const EVENT_RENEW_MS = EVENT_TAKEN_MS / 3;
/** What other proxies left, and what is tried again, is looked for this often. */
export const EVENT_LOOK_MS = 5_000;
/** An event that failed is tried again after this, doubling up to the next. */
export const EVENT_RETRY_MS = 2_000;
/** Longest pause between two tries of an event. */
export const MAX_EVENT_RETRY_MS = 5 * 60_000;
/** After this an event is given up: members that were away for so long begin with cold caches. */
export const EVENT_GIVE_UP_MS = 24 * 3_600_000;

// Preheats: origins that fetch, nodes that are told.
/** One long wait for an origin that fetches a blob; then it is asked again. */
export const FETCH_WAIT_MS = 15_000;
/** How late the answer to `FETCH_WAIT_MS` may be. */
export const FETCH_SLACK_MS = 45_000;
/** Pause between two rounds over a blob's origins, doubling up to the next. */
export const PREHEAT_RETRY_MS = 1_000;
/** Longest pause between two rounds. */
export const MAX_PREHEAT_RETRY_MS = 30_000;
/** Trackers are asked this often what became of a command to nodes. */
export const COMMAND_POLL_MS = 1_000;
/** A node that has not reported and whose lease ran out for this long is given up. */
export const NODE_GONE_MS = 30_000;
/** Nodes carry the command out for so long: a little longer than anybody asks. */
export const PREHEAT_COMMAND_MS = 35 * 60_000;
/** A node that is away for longer begins with what it has; it is told when it comes back within this. */
export const PURGE_COMMAND_MS = 24 * 3_600_000;

// Conversions of images.
/** A conversion that failed is tried again after this, doubling up to the next. */
export const CONVERSION_RETRY_MS = 10_000;
/** Longest pause between two tries of a conversion. */
export const MAX_CONVERSION_RETRY_MS = 3_600_000;
