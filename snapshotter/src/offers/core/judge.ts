import type { Digest } from '@sepia/base/digest';
import { whyNotBound } from '@sepia/cluster/api/layer-binding';
import type { LazyOffer } from '@sepia/cluster/api/lazy-offers';
import type { LayerKind } from '@sepia/lazy/index/layer-index';

/** A layer of an image, and why it is not lazy. */
export interface JudgedLayer {
  readonly digest: Digest;
  readonly diffId: Digest;
  readonly reason?: string | undefined;
}

/** What becomes of an offered image, and why. */
export interface Verdict {
  /** All layers may be shown, or the image is pulled the ordinary way. */
  readonly isLazy: boolean;
  readonly layers: readonly JudgedLayer[];
  /** Layers of which nothing says that they hold the diffID that is claimed for them. */
  readonly claims: readonly LazyOffer['layers'][number][];
  /** Those of them whose claimed diffID is shown here. */
  readonly unproven: readonly LazyOffer['layers'][number][];
  /** Those of them that were read whole: they hold something else, and no runtime would unpack them; misfits, too. */
  readonly forged: readonly LazyOffer['layers'][number][];
  /** Layers of another kind than this image takes them for, by the record or as they are shown here. */
  readonly misfits: readonly Digest[];
}

/** What this node knows of diffIDs. */
export interface Known {
  /** containerd finds it. */
  isShown(diffId: Digest): boolean;
  /** Layers that the cluster's record bound to it when they came here. */
  layersOf(diffId: Digest): readonly Digest[];
  /** The kind of layer that is shown here under a diffID; undefined: none is. */
  kindOf(diffId: Digest): LayerKind | undefined;
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
  const misfitOf = (layer: LazyOffer['layers'][number]): string | undefined =>
    whyMisfit(partOf(offer, layer), [known.kindOf(layer.diffId), kindOnRecord(layer)]);
  const layers = offer.layers.map((layer) => {
    const { digest, diffId, binding } = layer;
    const reason = offer.reason ?? (isKnownHere(layer) ? undefined : whyNotBound(binding, diffId));
    const said = layer.isUnanswered && reason !== undefined ? SILENT : reason;
    return { digest, diffId, reason: misfitOf(layer) ?? said };
  });
  const misfits = offer.layers.filter((one) => misfitOf(one) !== undefined).map(({ digest }) => digest);
  // `offer.reason` and a bad index take laziness away, not the proof that the layer is what it says.
  const isProven = (one: LazyOffer['layers'][number]): boolean =>
    one.binding?.diffId === one.diffId || isKnownHere(one) || known.readDiffId(one.digest) === one.diffId;
  const claims = offer.layers.filter((one) => misfits.includes(one.digest) || !isProven(one));
  const unproven = claims.filter((one) => known.isShown(one.diffId));
  return {
    isLazy: layers.length > 0 && layers.every((one) => one.reason === undefined),
    layers,
    claims,
    unproven,
    forged: unproven.filter(
      (one) => misfits.includes(one.digest) || known.readDiffId(one.digest) !== undefined,
    ),
    misfits,
  };
}

/** The kind that an image takes its layer for. */
export function partOf(offer: LazyOffer, layer: { readonly digest: Digest }): LayerKind {
  if (!offer.isNydus) return 'layer';
  return offer.layers.at(-1)?.digest === layer.digest ? 'nydus-bootstrap' : 'nydus-blob';
}

function kindOnRecord({ binding }: LazyOffer['layers'][number]): LayerKind | undefined {
  return binding?.index === undefined ? undefined : (binding.kind ?? 'layer');
}

/**
 * Why a layer is a misfit; undefined if it is none. The same bytes give one tree as part of a Nydus image and another as an
 * ordinary layer, so an image must not find a layer of another kind than it means. `kinds`: of what is shown here, and on
 * record.
 */
export function whyMisfit(part: LayerKind, kinds: readonly (LayerKind | undefined)[]): string | undefined {
  const other = kinds.find((kind) => kind !== undefined && kind !== part);
  if (other === undefined) return undefined;
  return part === 'layer'
    ? 'it is a part of a Nydus image, and this image has it as an ordinary layer'
    : `this Nydus image has it as its ${PART_NAMES[part]}, and it is ${other === 'layer' ? 'an ordinary layer' : `a ${PART_NAMES[other]}`}`;
}

const PART_NAMES = { layer: 'layer', 'nydus-bootstrap': 'bootstrap', 'nydus-blob': 'data blob' } as const;
