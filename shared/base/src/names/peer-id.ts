import { hash } from 'node:crypto';

/** Bytes of a BitTorrent peer id. */
const PEER_ID_BYTES = 20;
/** `-SP0001-`. */
const CLIENT_HEX = '2d5350303030312d';

/**
 * Peer id of a member or node: `-SP0001-` and the first 12 bytes of SHA-256(id), so that the same node has the
 * same peer id after a restart (BEP 20 style).
 */
export function peerIdOf(nodeId: string): Uint8Array {
  return Buffer.from(peerIdHexOf(nodeId), 'hex');
}

/** The peer id of a node, as {@link peerIdOf} makes it, in 40 hex characters: the form of join answers, logs and keys of maps. */
export function peerIdHexOf(nodeId: string): string {
  return CLIENT_HEX + hash('sha256', nodeId, 'hex').slice(0, 2 * PEER_ID_BYTES - CLIENT_HEX.length);
}
