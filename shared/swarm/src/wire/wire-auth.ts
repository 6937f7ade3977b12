import { createHmac, timingSafeEqual } from 'node:crypto';

/** Bytes of a nonce: fresh from each end, for each connection. */
export const NONCE_BYTES = 32;
/** Bytes of a proof, an HMAC-SHA-256. */
export const PROOF_BYTES = 32;

/** Which end of a wire a member is: it dialled, or it was dialled. */
export type WireRole = 'dialer' | 'listener';

/** What both ends know when they prove the cluster key. Nonces are 32 fresh bytes each, ids 20 bytes each. */
export interface Transcript {
  readonly dialerNonce: Uint8Array;
  readonly listenerNonce: Uint8Array;
  readonly dialerPeerId: Uint8Array;
  readonly listenerPeerId: Uint8Array;
  readonly swarmId: Uint8Array;
}

/**
 * Proof that the member in `role` holds the cluster key: HMAC-SHA-256(key, "sepia-wire-1" ‖ role u8 (1 dialer, 2 listener) ‖
 * dialer's nonce ‖ listener's nonce ‖ dialer's peer id ‖ listener's peer id ‖ swarmId). The role keeps a proof
 * from being sent back to its maker, the nonces from being sent again.
 */
export function wireProof(clusterKey: Uint8Array, role: WireRole, transcript: Transcript): Uint8Array {
  return createHmac('sha256', clusterKey)
    .update('sepia-wire-1')
    .update(new Uint8Array([role === 'dialer' ? 1 : 2]))
    .update(transcript.dialerNonce)
    .update(transcript.listenerNonce)
    .update(transcript.dialerPeerId)
    .update(transcript.listenerPeerId)
    .update(transcript.swarmId)
    .digest();
}

/** Compares in constant time; false for any other length. */
export function proofMatches(expected: Uint8Array, found: Uint8Array): boolean {
  return found.length === expected.length && timingSafeEqual(expected, found);
}
