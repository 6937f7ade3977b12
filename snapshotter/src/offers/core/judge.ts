import type { Digest } from '@sepia/base/digest';
import { whyNotBound } from '@sepia/cluster/api/layer-binding';
import type { LazyOffer } from '@sepia/cluster/api/lazy-offers';

/** A layer of an image, and why it is not lazy. */
export interface JudgedLayer {
  readonly digest: Digest;
  readonly diffId: Digest;
  readonly reason: string | undefined;
}

export interface Verdict {
  /** All layers may be shown, or the image is pulled the ordinary way. */
  readonly isLazy: boolean;
  readonly layers: readonly JudgedLayer[];
  /** Layers of which nothing says that they hold the diffID that is claimed for them. */
  readonly claims: readonly LazyOffer['layers'][number][];
  /** Those of them whose claimed diffID is shown here. */
  readonly unproven: readonly LazyOffer['layers'][number][];
  /** Those of them that were read whole: they hold something else, and no runtime would unpack them. */
  readonly forged: readonly LazyOffer['layers'][number][];
}

/** What this node knows of diffIDs. */
export interface Known {
  /** containerd finds it. */
  isShown(diffId: Digest): boolean;
  /** Layers that the cluster's record bound to it when they came here. */
  layersOf(diffId: Digest): readonly Digest[];
  /** What this node found in a layer by reading all of it. */
  readDiffId(layer: Digest): Digest | undefined;
}

const SILENT = 'nobody in the cluster says whether it has an index';

/**
 * What an image may show. containerd finds a layer by the diffID that the image's own config claims, and checks nothing:
 * so a layer is shown only where the cluster's record of the very layer of the manifest says that diffID; and a
 * diffID that is shown already, of another layer, must not be found by an image that has no such proof. Reading the
 * layer whole is a proof too: that it holds the same bytes, so that what is found is what would be unpacked.
 */
export function judge(offer: LazyOffer, known: Known): Verdict {
  const isKnownHere = (layer: LazyOffer['layers'][number]): boolean =>
    layer.isUnanswered && known.layersOf(layer.diffId).includes(layer.digest);
  const layers = offer.layers.map((layer) => {
    const { digest, diffId, binding } = layer;
    const reason = offer.reason ?? (isKnownHere(layer) ? undefined : whyNotBound(binding, diffId));
    return { digest, diffId, reason: layer.isUnanswered && reason !== undefined ? SILENT : reason };
  });
  // `offer.reason` and a bad index take laziness away, not the proof that the layer is what it says.
  const claims = offer.layers
    .filter((one) => one.binding?.diffId !== one.diffId && !isKnownHere(one))
    .filter((one) => known.readDiffId(one.digest) !== one.diffId);
  const unproven = claims.filter((one) => known.isShown(one.diffId));
  return {
    isLazy: layers.length > 0 && layers.every((one) => one.reason === undefined),
    layers,
    claims,
    unproven,
    forged: unproven.filter((one) => known.readDiffId(one.digest) !== undefined),
  };
}
