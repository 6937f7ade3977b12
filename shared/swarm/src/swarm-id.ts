import { createHmac } from 'node:crypto';
import type { Digest } from '@sepia/base/digest';

/** Bytes of a swarm id: it travels in the handshake's info_hash field. */
const SWARM_ID_BYTES = 20;

/**
 * The name of a blob's swarm between members: the first 20 bytes of HMAC-SHA-256(cluster key, "sepia-swarm-1" ‖ digest).
 * Known before anything else of the blob is, and it tells an outsider nothing about the digest. Fresh bytes.
 */
export function swarmId(clusterKey: Uint8Array, digest: Digest): Uint8Array {
  const mac = createHmac('sha256', clusterKey).update('sepia-swarm-1').update(digest).digest();
  return new Uint8Array(mac.subarray(0, SWARM_ID_BYTES));
}
