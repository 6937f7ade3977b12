import { readFileSync } from 'node:fs';
import { Bitfield } from '@sepia/base/bitfield';
import { parseDigest } from '@sepia/base/digest';
import { peerIdHexOf, peerIdOf } from '@sepia/base/names/peer-id';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PieceHasher } from '@sepia/metainfo/tree';
import { SwarmEngine } from '@sepia/swarm/shell/engine';
import { MadeBlob } from '../blobs.ts';

/** What the crowd's process is told, once. */
export interface CrowdOrder {
  readonly keyFile: string;
  /** Engines; each opens one wire per blob to every target. */
  readonly members: number;
  readonly blobs: readonly { readonly digest: string; readonly sizeBytes: number; readonly base: string }[];
}

/** Members to dial. */
export interface CrowdTargets {
  readonly targets: readonly { readonly id: string; readonly address: string; readonly origin: boolean }[];
}

/** Every n-th piece is held by a member of the crowd. */
const SHARE = 20;
const QUIET = { debug() {}, info() {}, warn() {}, error() {} };

/**
 * Many swarm members in one process, each with a twentieth of every blob. They give and never take: without buffers of
 * their own they still ask around, so that their wires stay.
 */
function gather(order: CrowdOrder): (targets: CrowdTargets) => void {
  const clusterKey = Buffer.from(readFileSync(order.keyFile, 'utf8').trim(), 'hex');
  const blobs = order.blobs.map(({ digest, sizeBytes, base }) => {
    const blob = new MadeBlob(sizeBytes, Buffer.from(base, 'base64'));
    const hasher = new PieceHasher();
    for (const part of blob.parts()) hasher.update(part);
    return { blob, digest: parseDigest(digest), layer: hasher.finish() };
  });
  return ({ targets }) => {
    for (let member = 0; member < order.members; member++) {
      const engine = new SwarmEngine(
        { clusterKey, peerId: peerIdOf(`crowd-${member}`), log: QUIET },
        { slabs: 0 },
      );
      for (const { blob, digest, layer } of blobs) {
        const have = new Bitfield(layer.length / 32);
        for (let index = member % SHARE; index < layer.length / 32; index += SHARE) have.add(index);
        const swarm = engine.join({
          digest,
          metainfo: Metainfo.final(digest, blob.sizeBytes, layer),
          pieces: {
            have,
            readPiece: async (index, offset, length) => blob.piece(index, offset, length),
            writePiece: async () => undefined,
          },
          leech: true,
        });
        swarm.addPeers(
          targets.map(({ id, address, origin }) => ({
            peerId: peerIdHexOf(id),
            addresses: [address],
            origin,
          })),
        );
        swarms.add(swarm);
      }
    }
  };
}

const swarms = new Set<ReturnType<SwarmEngine['join']>>();
let meet: ((targets: CrowdTargets) => void) | undefined;
process.on('message', (message: CrowdOrder | CrowdTargets | 'count') => {
  if (message === 'count') {
    const stats = [...swarms].map((one) => one.stats());
    process.send?.({
      wires: stats.reduce((sum, one) => sum + one.links.length, 0),
      uploadedBytes: stats.reduce((sum, one) => sum + one.uploadedBytes, 0),
    });
  } else if ('targets' in message) meet?.(message);
  else {
    meet = gather(message);
    process.send?.('ready');
  }
});
process.once('disconnect', () => process.exit(0));
