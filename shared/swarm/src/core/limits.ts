/** Limits and times of the policy, all in ms, bytes or counts. Reasons: `docs/adr/0010-swarm-wire.md`. */
export const CORE_LIMITS = Object.freeze({
  /** Peers remembered from the tracker. */
  knownPeers: 256,
  /** Wires that this side dials, and wires in all; above the second a peer is told `full`. */
  dialledWires: 24,
  wires: 64,
  /** Wires to peers that are no members, beside those; and pieces asked of one of them at once. */
  strangerWires: 16,
  strangerDepth: 1,
  /** Pieces asked of one wire at once. */
  depthMin: 2,
  depthMax: 8,
  /** Pieces asked of one HTTP source at once. */
  httpDepth: 4,
  /**
   * Pieces in flight for one swarm: what its rate brings in `inFlightMs`, between these two. With at most `fewPeers` half
   * of it is enough to keep the line busy, and what a reader needs next waits behind half as much.
   */
  inFlightMin: 8,
  /** Swarms that share a line share `inFlightMin`, too; each has at least so many, or 1 where the line needs `sharedQueueMs` for them. */
  inFlightLeast: 3,
  sharedQueueMs: 4_000,
  inFlight: 32,
  inFlightMs: 1_000,
  inFlightFewMs: 600,
  fewPeers: 8,
  /** Missing pieces looked at for one choice; more are sampled. */
  sample: 128,
  /** Pieces straight in front of a reader that everybody takes first, and those that are mixed with the rarest. */
  readerHead: 1,
  readerWindow: 32,
  /**
   * Who is alone goes no further ahead of a reader that moved within `readerMovesMs`: what is far ahead leaves the memory
   * in which it was verified, and costs a read and a second hash.
   */
  loneWindow: 16,
  readerMovesMs: 250,
  /** A reader's piece that no peer has is asked of an origin after this; the first piece of a reader at once. */
  originGraceMs: 300,
  /** Pieces asked over HTTP while wires are being dialled. */
  httpWhileDialling: 2,
  /** A reader's piece comes over HTTP after this, though wires have it. */
  readerHttpMs: 4_000,
  /**
   * A reader's piece that is this late gets a second wire, if that brings it in less than half of the time that is left;
   * where more is asked for, after twice as long as the line needs for all of it.
   */
  readerLateMs: 700,
  /** A fetch without a byte for this long gets a second source. With the tick: a switch in ≤ 1.25 s. */
  stallMs: 1_000,
  /** A slow line of one's own is given at most this for what is on its way: who is silent for longer is late however slow that is. */
  lineMs: 60_000,
  tickMs: 250,
  /** A wire with open fetches and no byte for this long is closed. */
  hungMs: 10_000,
  /** Sources of one piece at once. */
  fetchers: 2,
  /** Missing pieces at which the endgame begins. */
  endgame: 16,
  /** Age of a fetch, in multiples of what it should take, before the endgame doubles it. */
  endgameFactor: 2,
  endgameMinMs: 500,
  /** Pause after a refused or failed piece, per wire and piece. */
  refusedMs: 500,
  backoffMinMs: 500,
  backoffMaxMs: 30_000,
  dialMs: 5_000,
  /** How long a peer that lied is left alone, in all swarms of the engine; and an origin. */
  banMs: 3_600_000,
  originBanMs: 30_000,
  /** A wire older than this gives way to a newer one of the same peer. */
  settledMs: 5_000,
  /** Super-seeding: suggestions open per wire; and in all, where at most `fewPeers` download. */
  suggestions: 2,
  openSuggestions: 6,
  /** Swarms that share a line share `openSuggestions`, too; each has at least so many. */
  suggestionsLeast: 2,
  /** Pieces ahead of the peer that got furthest, up to which an origin suggests: so streams get what is read next. */
  seedAhead: 64,
  /** Copies of a piece that an origin gives before it sends askers to the peers that have it. */
  originCopies: 1,
  /** Below this number of downloading peers an origin gives whatever is asked. */
  freeLeechers: 2,
  wantPeersMs: 1_000,
  /** Of all bytes over wires, at most this share comes from other zones while the own one moves; 1: no cap. */
  farShare: 1,
});

/** Limits of the core of a swarm: a number for each key of {@link CORE_LIMITS}, in the unit that it says there. */
export type CoreLimits = Readonly<Record<keyof typeof CORE_LIMITS, number>>;
