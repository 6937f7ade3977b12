/**
 * How long the snapshotter waits, by whom for: one table, in ms. What spans services is in shared/cluster/src/deadlines.ts.
 */

// The agent: offers, and bytes of layers.
/** One long poll for images whose config waits; an agent that answers nothing is asked again. */
export const OFFERS_MS = 20_000;
/** A call to the agent that is answered at once; and how late the answer to a long poll may be. */
export const AGENT_MS = 10_000;
/** After a poll that failed, the agent is asked again after this. */
export const OFFERS_AGAIN_MS = 1_000;
/** Before the config goes out, containerd must find the links or not: this much of the wait is left for the answer. */
export const MARGIN_MS = 50;
/** How long a pull may go on looking for layers after its config went out. */
export const CLAIM_MS = 24 * 60 * 60_000;
/** A range that a program waits for is asked for again after this, doubling up to the next. */
export const FIRST_READ_PAUSE_MS = 100;
/** Longest pause between two tries: a program hangs no longer than this after the agent came back. */
export const LONGEST_READ_PAUSE_MS = 2_000;
/** An agent that was silent for a whole deadline is asked for a sign of life for so long, before it is waited for again. */
export const SIGN_MS = 1_000;
/** Silence of a running request. */
export const SILENCE_MS = 20_000;
/** A layer of which nobody tried to read for so long may have been there meanwhile; as long is remembered that a range got nothing. */
export const FORGOTTEN_MS = 5_000;

// Filling layers, and looking at what is on disk.
/** Filling begins so long after the last read that a program waited for. */
export const FILL_QUIET_MS = 2_000;
/** A fill that failed goes on after this, doubling up to the next; nobody waits for it. */
export const FIRST_FILL_PAUSE_MS = 1_000;
/** Longest pause between two tries to fill. */
export const LONGEST_FILL_PAUSE_MS = 60_000;
/** Layers may be added: looked at this often while all are whole. */
export const FILL_LOOK_MS = 500;
/** A lane of filling that has to pause looks again after this. */
export const FILL_BESIDE_MS = 100;
/** Layers that became whole are looked for this often. */
export const CHECK_LOOK_MS = 1_000;
/** What was damaged, or could not be read again, is looked at once more after this, doubling up to the next. */
export const FIRST_CHECK_PAUSE_MS = 1_000;
/** Longest pause between two looks at a layer that is damaged each time. */
export const LONGEST_CHECK_PAUSE_MS = 30_000;
/** A disk that had no room for a write counts as full so long: nothing is read ahead, and `/readyz` warns. */
export const DISK_FULL_MS = 60_000;
/** Processes end after so long without a job. */
export const IMAGE_IDLE_MS = 2_000;
/** One job may take so long: a million entries take some seconds. */
export const IMAGE_MS = 120_000;

// containerd and its pulls.
/** containerd answers about its snapshots within this. */
export const CONTAINERD_MS = 10_000;
/** A pull that began, or was shown a layer, has its next snapshot within this, unless it failed: layers are mounted, not downloaded. */
export const PULL_MS = 10 * 60_000;
/** Layers that are shown within this of each other may be of one pull. */
export const ONE_PULL_MS = 60_000;
/** From a layer's withdrawal until its files go: who found it just before has its snapshot by then. */
export const LEAVING_MS = 5_000;
/** Snapshots are looked at this often although there is room: whose layer they name was used. */
export const CACHE_LOOK_MS = 60_000;
/** Room in the cache is looked at this often. */
export const CACHE_TICK_MS = 5_000;
/** One call of mount or umount; then it is killed. */
export const MOUNT_MS = 30_000;
/** One that was killed ends within this, or the kernel hangs in it and nobody waits for it. */
export const MOUNT_KILLED_MS = 2_000;
/** While the kernel hangs in one, another gets this in place of `MOUNT_MS`: what it would wait for may be the same. */
export const MOUNT_BESIDE_MS = 3_000;

// Its own processes, and whether it is ready.
/** The holder of the mount has it up within this. */
export const START_MS = 60_000;
/** How often it is looked whether the holder has the mount up. */
export const START_POLL_MS = 100;
/** systemd has begun it in a scope of its own within this, or it is begun without. */
export const SCOPE_MS = 10_000;
/** A holder that was killed is followed by another within this. */
export const SUCCESSION_MS = 3_000;
/** A daemon that another one follows ends within this when it is told to; then it is killed. */
export const FORMER_MS = 10_000;
/** A daemon that does not serve for as long after its start is not starting any more: it hangs. */
export const BEGINNING_MS = 10 * 60_000;
/** How often it is looked whether mount and agent answer. */
export const READY_LOOK_MS = 5_000;
/** While no daemon serves for this long, what no snapshot names is not shown: containerd would wait for it without end. */
export const UNSERVED_MS = 60_000;
/** Silence of the mount or the agent that counts as none at all. */
export const READY_ANSWER_MS = 5_000;
/** How long a lack must last: a holder that was killed is followed by another, an agent restarts. */
export const PATIENCE_MS = 10_000;
/** One question whether its doors are open; it is asked again after `START_POLL_MS`. */
export const LIVEZ_MS = 2_000;
/** So much later than an answer may be, a look is over. */
export const READY_SLACK_MS = 100;
