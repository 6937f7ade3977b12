// Beside these: until a member counts as silent (`core/health.ts`), how long a link is believed (`core/link-ledger.ts`), and what
// routes bound (`api/lease.ts`, `api/commands.ts`). How long one service waits is in its own table.

/**
 * Waits for the first byte of an answer for which an upstream may have to be asked, by who waits, in ms. Whoever asks waits
 * longer than whoever is asked: so that it hears the reason, and asks nobody else for what is still on its way.
 */
export const FIRST_ANSWER_MS = Object.freeze({
  /** An origin for an upstream: the most that its `first-byte` may be. */
  upstream: 60_000,
  /** An origin for the one that leads: both answer for the same tag. */
  leader: 70_000,
  /** A proxy, a tracker, or an origin that passes a request on, for an origin. */
  origin: 75_000,
  /** An agent for an origin, or for a proxy that asks one. */
  agent: 80_000,
  /** An agent for a tracker that asks an origin; or for what becomes of a password at a slow token service. */
  join: 85_000,
});

/**
 * Whoever is shown a password first answers a small question within this, by who asks, in ms: what carries
 * a password is sent once, to one that is there.
 */
export const AWAKE_MS = Object.freeze({ proxy: 4_000, agent: 6_000 });

/** Longest wait of one long poll, in ms: shorter than what any hop or middlebox takes for silence. */
export const LONG_POLL_MS = 25_000;

/** A member that sent wrong bytes is told so within this, in ms; it finds them by itself otherwise. */
export const COMPLAINT_MS = 2_000;

// What this package asks by itself.
/** A tracker that does not take or tell a command within this counts as away. */
export const COMMAND_MS = 3_000;
/** How long an origin may take to tell the membership. */
export const MEMBERSHIP_MS = 3_000;
/** A scan leaves a source alone for so long after its job died. */
export const SETTLED_REST_MS = 3_600_000;
