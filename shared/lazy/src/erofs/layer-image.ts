import { type Digest, digestHex } from '@sepia/base/digest';
import type { LayerIndex } from '../index/layer-index.ts';
import { type ErofsImage, encodeErofs } from './encode.ts';
import { unpackedTree } from './layer-tree.ts';

/** The image that a layer is mounted as; its uuid is the diffID's first bytes. @throws {CodedError} `LAYER_NOT_LAZY` */
export function layerImage(index: Pick<LayerIndex, 'diffId' | 'entries'>): ErofsImage {
  return encodeErofs(unpackedTree(index.entries), { uuid: imageUuid(index.diffId) });
}

/** The uuid of a layer's image. */
export function imageUuid(diffId: Digest): Uint8Array {
  return Buffer.from(digestHex(diffId).slice(0, 32), 'hex');
}
