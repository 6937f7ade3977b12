/**
 * How long the origin waits for other members: origins, trackers, proxies, nodes. In ms. What spans services is in
 * shared/cluster/src/deadlines.ts.
 */

// Any member: small questions, and whether it lives.
/** A member that says nothing to a small question within this counts as failing. */
export const QUICK_MS = 800;
/** How long a member may take whose first silence this was, or that has much to say: a busy machine is not a dead one. */
export const PATIENT_MS = QUICK_MS * 4;
/** Records are asked of as few owners as know them; of the others too when one of these says nothing for so long. */
export const ASK_HEDGE_MS = QUICK_MS / 8;
/** A member that is asked something long is asked something small this often meanwhile. */
export const ATTEND_EVERY_MS = 250;
/** An aborted small question that was silent for this long counts as a failure as well. */
export const SILENT_MS = QUICK_MS / 2;
/** A member that does not accept a connection within this is silent. */
export const CONNECT_MS = 1_000;
/** A member that failed is passed over for this long, doubling up to the next. */
export const FAILED_REST_MS = 1_000;
/** Longest time that a member that failed is passed over. */
export const MAX_FAILED_REST_MS = 15_000;

// Owners of records.
/** Rounds of a register without majority are not repeated longer: the caller has other ways or answers 503. */
export const REGISTER_MS = 5_000;
/** An owner of a register may take this long for a message where nobody has another way: a slow disk is no dead one. */
export const REGISTER_PATIENT_MS = QUICK_MS * 5;
/** As {@link REGISTER_MS}, with such owners: two messages of theirs, and tries without patience. */
export const PATIENT_REGISTER_MS = 2 * REGISTER_MS;
/** A shared table tries again on its own; it is waited for so much longer than it tries. */
export const SHARED_SLACK_MS = 1_000;
/** An intent runs when the push that noted it must have ended: its register has given up. */
export const INTENT_MS = PATIENT_REGISTER_MS + REGISTER_MS;
/** A noted tag is looked at this long after its job went: its register has given up. */
export const TAG_CHECK_MS = PATIENT_REGISTER_MS + REGISTER_MS;
/** An owner reads all of the repository before it answers, or takes its tombstones off the disk. */
export const FLOOR_MS = 60_000;
/** A page of another owner's floors, or of what stands above one. */
export const FLOOR_LIST_MS = 30_000;
/** A hold that is not renewed ends after this long: its push is over, or its stager. */
export const QUOTA_HOLD_MS = 10 * 60_000;
/** A hold is renewed this often while bytes come. */
export const QUOTA_RENEW_MS = QUOTA_HOLD_MS / 10;
/** A count is used again for this long; what comes meanwhile is added to it. */
export const QUOTA_COUNT_MS = 10_000;

// Owners of blobs: copies and repair.
/** A blob that one origin was asked for and did not bring is requested from another one after this. */
export const ASK_NEXT_MS = 20_000;
/** Longest time for one piece from one source. */
export const REPAIR_PIECE_MS = 15_000;
/** All sources are asked once more after this, while somebody waits for the piece. */
export const REPAIR_RETRY_MS = 1_000;
/** Who reads it is told so at once for this long; from then on each source is asked once more. */
export const REPAIR_TOLD_MS = 5_000;
/**
 * A piece that nobody had a right copy of is not looked at behind again for this long: origins that hold the same
 * damage would set each other looking for ever. Whoever reads it meanwhile waits for no copy to turn up.
 */
export const REPAIR_HOPELESS_MS = 60_000;
/** A failed copy is logged once in this time for each owner and reason. */
export const COPY_SAID_MS = 10_000;
/** Owed copies are looked at this often; one that failed is made again after this, doubling up to the next. */
export const COPY_LOOK_MS = 2_000;
/** Longest pause before a copy that failed is made again. */
export const MAX_COPY_RETRY_MS = 60_000;
/** Until the receiving member answers after the last byte: it syncs first. One that hangs is given up sooner. */
export const COPY_ANSWER_MS = 60_000;
/** A member that takes no byte of a copy for so long is given up; from when a socket to it is free. */
export const COPY_STALL_MS = 5_000;
/** A blob that is read again and again is looked after this often: a copy may have been evicted, or its disk lost. */
export const CACHED_LOOK_MS = 3_600_000;
/** After a copy of a cached blob that could not be made. */
export const CACHED_RETRY_MS = 60_000;
/** Another owner sends a copy of a manifest, or takes one. */
export const MANIFEST_COPY_MS = 15_000;
/** Until another origin sends the first byte, and longest silence after it. */
export const OTHER_READ_MS = 30_000;
/** Until an origin answers beside the wait that it was asked for. */
export const RELAY_SLACK_MS = 20_000;
/** A passed-on body that is silent for this long is cut. */
export const RELAY_STALL_MS = 35_000;
/** To one that waits for more, the first hashes are told one by one, later ones gathered for this long. */
export const GATHER_MS = 50;
/** When several links are asked for in one call, those that take this much longer than the first are asked for again, alone. */
export const WORDS_MS = 100;
/** So do those that take longer than this, were it all of them; the tracker takes 0.9 s for silence. */
export const MOST_WORDS_MS = 200;
/** Longest that the leader is waited for; it reads the whole body first. */
export const DELIVERY_LEADER_MS = 15 * 60_000;

// Collection of garbage: all members.
/** An origin may owe copies for this long before a sweep gives up. */
export const GC_OWED_MS = 30_000;
/** How often owners are asked, until then, whether they still owe copies. */
export const GC_ASK_AGAIN_MS = 1_000;
/** A member that does not say within this that a sweep may begin is silent. */
export const GC_READY_MS = 10_000;
/** A member may take this long to look through all of its links, or to delete many files. */
export const GC_SLOW_MS = 60_000;
/** What may be a manifest that nothing tells of any more is read within this, wherever it is. */
export const GC_READ_MS = 60_000;
/** All members must have condemned within this, so that their fences stand together. */
export const GC_CONDEMN_MS = 10_000;
/** A member that does not take part in a hold within this is passed over. */
export const GC_HOLD_MS = 3_000;
/** What is condemned stays so for at most this long without a word of the sweep; then it lifts itself. */
export const FENCE_MS = 60_000;
/**
 * What is condemned may be removed for this long. Shorter than {@link FENCE_MS} by more than the members' answers
 * to one condemnation may lie apart: whoever may remove something, all others still refuse to build on it.
 */
export const REMOVE_MS = FENCE_MS - 2 * GC_CONDEMN_MS;

// The ring, and what former owners leave.
/** While the membership moves, it is looked at this often. */
export const MOVING_REST_MS = 500;
/** With nothing to do the ring is looked at this often: changes are told. */
export const IDLE_REST_MS = 30_000;
/** While former owners' leftovers are here, it is looked at this often. */
export const LEFTOVERS_REST_MS = 5_000;
/** A membership that was named and not got is not asked for again for so long. */
export const HEARD_REST_MS = 3_000;
/** Between two looks at what a move waits for: at first, doubling up to the next. */
export const FIRST_LOOK_MS = 100;
/** Longest time between two looks at what a move waits for. */
export const MAX_LOOK_MS = 1_000;
/** If no blob came for this long, all that are wanted are requested again: their senders may be gone. */
export const MOVE_ASK_AGAIN_MS = 10_000;
/** How long an owner may take to look at a page. */
export const COVERS_MS = 10_000;
/** Between two passes over what is left, which left something, at first; doubling up to each one's longest. */
export const PASS_REST_MS = 5_000;
/** Longest rest between two passes over records of former owners. */
export const MAX_FORMER_REST_MS = 3_600_000;
/** Longest rest between two passes over leftover blobs. */
export const MAX_LEFTOVER_REST_MS = 160_000;

// After a start: comparison with other owners.
/** Between two questions at a source after the start: at first, half as long again each time up to the next. */
export const START_REST_MS = 50;
/** Longest rest between two such questions. */
export const MAX_START_REST_MS = 2_000;
/** Longest rest before a start goes on that failed here, as for want of room on the disk. */
export const MAX_START_AGAIN_MS = 10_000;
/** What should be on the disk is looked for again after this where that failed: at first, then after twice as long each time. */
export const LOOK_THROUGH_AGAIN_MS = 1_000;
/** Longest rest before it is: each time all blobs are listed. */
export const MAX_LOOK_THROUGH_AGAIN_MS = 600_000;
/** A source counts its records and syncs its standing before it answers. */
export const HANDOVER_MS = 5_000;
/** An origin outside of the ring asks for the membership after this, then ever less often; it is told too. */
export const OUTSIDE_REST_MS = 500;
/** Longest rest between two such questions. */
export const MAX_OUTSIDE_REST_MS = 10_000;
/** How long others may take to note a clean stop. */
export const CLOSING_MS = 1_000;
/** An owner reads a page of its records, or takes what it is told that it owes. */
export const SYNC_PAGE_MS = 30_000;
/** Between two pages of a comparison, or of a pass, so that it never takes a disk or a link for itself. */
export const PAGE_REST_MS = 25;
/** The first comparison after the start or a change; each that finds the same difference waits longer. */
export const COMPARE_REST_MS = 500;
/** Longest rest before a comparison that finds the same again. */
export const MAX_COMPARE_REST_MS = 30_000;
/** Least rest between two comparisons: others' work gets its turn. */
export const MIN_COMPARE_REST_MS = 20;
/** Longest rest after a pull that was not asked for, which rests as long as it took, several times. */
export const MAX_DUTY_REST_MS = 600_000;

// Members and nodes that are told what is gone.
/** A delete waits this long for members to take its revocation. */
export const REVOKE_MS = 1_000;
/** Members that were silent are told again after this, doubling up to the next. */
export const REVOKE_RETRY_MS = 1_000;
/** Longest pause before they are told again. */
export const MAX_REVOKE_RETRY_MS = 30_000;
/** Members that stay silent are told again for this long. */
export const REVOKE_GIVE_UP_MS = 15 * 60_000;
/** Other origins that do not purge within this are missed. */
export const PURGE_MS = 3_000;
/** An origin deletes the files of one message within this. */
export const DROP_MS = 30_000;
/** Nodes that are away for longer keep what they have: trackers hold only so many commands. */
export const REMOVAL_COMMAND_MS = 3_600_000;
/** The leader of a shard is told again of the jobs that others keep for it. */
export const TELL_AGAIN_MS = 15_000;
