/** Limits of the wire. Numbers come from `docs/adr/0010-swarm-wire.md`; all sizes in bytes, all times in ms. */
export const WIRE_LIMITS = Object.freeze({
  /** Longest message of a member, without its 4-byte length: a 1 TiB blob's bitfield is 128 KiB. */
  memberMessageBytes: 256 * 1024 + 9,
  /** Longest message of a stranger beside a bitfield: one block. */
  strangerMessageBytes: 16 * 1024 + 9,
  /** Requests of a stranger that wait here: clients ask for up to 250 without being told a limit. */
  strangerRequests: 256,
  /** A stranger that sends nothing for this long is closed; clients keep alive every two minutes. */
  strangerIdleMs: 180_000,
  /** Longest extension handshake and proof. */
  handshakeMessageBytes: 4 * 1024,
  /** Block length that members agree on. */
  memberBlockBytes: 128 * 1024,
  /** Block length that every BitTorrent peer understands. */
  strangerBlockBytes: 16 * 1024,
  /** Requests of a peer that wait here; further ones are rejected (BEP 6). */
  queuedRequests: 64,
  /** What may be read or wait in the socket of one wire. */
  wireUploadBytes: 1024 * 1024,
  /** Blocks that follow each other are read from disk at once, up to this. */
  uploadReadBytes: 512 * 1024,
  /** The same for all wires of the engine together. */
  engineUploadBytes: 32 * 1024 * 1024,
  /** Reading from a peer stops while more than this waits to be written to it. */
  controlBacklogBytes: 2 * 1024 * 1024,
  /** From connection to proven cluster key. */
  handshakeMs: 5_000,
  /** HAVEs that follow one are collected this long. */
  haveBatchMs: 20,
  /** Indexes in one HAVE batch. */
  haveBatch: 4_096,
  keepAliveMs: 30_000,
  /** A member that sends nothing for this long is closed; others keep alive. */
  idleMs: 90_000,
  /** Late blocks of cancelled requests that are taken and thrown away, per wire. */
  cancelledRequests: 1_024,
});

/** Inbound connections that did not prove the cluster key yet, in all and of one host. */
export const UNPROVEN_WIRES = { all: 256, perHost: 64 };

/** Limits of the wire: a number for each key of {@link WIRE_LIMITS}, in the unit that it says there. */
export type WireLimits = Readonly<Record<keyof typeof WIRE_LIMITS, number>>;
