/** Kraken's own defaults (its base.yaml and its code, 0.1.4), in ms, bytes and counts. */
export const KRAKEN_LIMITS = Object.freeze({
  /** Its shipped table has this one length. */
  pieceBytes: 4 * 1024 * 1024,
  /** Of one node in one torrent, dialled, accepted and half open. */
  connections: 10,
  /** Agents in one answer of the tracker; the origins come beside them. */
  handout: 50,
  /** Origins that serve a blob. */
  origins: 3,
  announceMs: 3_000,
  /** Whole pieces asked of one connection at once: of an agent, of an origin. */
  pipeline: 3,
  originPipeline: 5,
  /** So few pieces are missing that one may be asked of several. */
  endgamePieces: 3,
  /** A request is late after this, and looked for in every half of it. */
  requestMs: 16_000,
  /** A peer that refused or whose connection ended is not dialled for this long. */
  blacklistMs: 30_000,
  /** A connection without a piece for this long is closed; looked for as often. */
  idleMs: 30_000,
});
