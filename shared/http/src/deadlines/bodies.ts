/**
 * How long bodies wait for the members that they come from, and for the disk; in ms. What counts as a quick write is part of
 * the pace of a body (`bodies/core/body-windows.ts`).
 */

// Members that bodies come from.
/** Another member is asked beside one whose bytes do not come for this long. */
export const STALL_MS = 1_000;
/** A member whose bytes do not come for this long is given up; then it is asked anew like any other. */
export const RENEW_MS = 4_000;
/** How often the silence of a member is looked at. */
export const ASK_LOOK_MS = 250;
/** Pause before members are looked for again after all have failed, or polled again after a poll that did. */
export const ASK_AGAIN_MS = 250;
/** A member that is asked for news of a metainfo waits for them for this long. */
export const POLL_MS = 10_000;
/** A range that nobody read from for this long is closed: a client that does not read holds no other member. */
export const UNREAD_MS = 1_000;
/** Longest wait for bytes of a blob that is read once more. */
export const READ_AGAIN_MS = 30_000;
/** A body that somebody waits for whole has this long beside what the slowest line takes for it. */
export const BODY_GRACE_MS = 60_000;

// Reads, and their buffers.
/** A read that takes longer gives its turn to the next and goes on: one slow source holds up nobody. */
export const TURN_MS = 250;
/** A read that goes on for this long after its turn is not counted any more. */
export const LATE_MS = 2_000;
/** Buffers that nobody used for this long are freed. */
export const BUFFER_IDLE_MS = 5_000;
