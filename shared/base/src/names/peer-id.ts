import { createHash } from 'node:crypto';

/** Bytes of a BitTorrent peer id. */
export const PEER_ID_BYTES = 20;

/**
 * Peer id of a member or node: `-SP0001-` and the first 12 bytes of SHA-256(id), so that the same node has the
 * same peer id after a restart (BEP 20 style).
 */
export function peerIdOf(nodeId: string): Uint8Array {
  return Buffer.concat([
    Buffer.from('-SP0001-', 'latin1'),
    createHash('sha256').update(nodeId).digest().subarray(0, 12),
  ]);
}

/** {@link peerIdOf} as 40 hex characters. */
export function peerIdHexOf(nodeId: string): string {
  return Buffer.from(peerIdOf(nodeId)).toString('hex');
}
