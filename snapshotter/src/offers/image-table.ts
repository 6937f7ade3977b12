import type { Digest } from '@sepia/base/digest';
import { LatestMap } from '@sepia/base/latest-map';
import type { LazyOffer } from '@sepia/cluster/api/lazy-offers';
import type { JudgedLayer } from './core/judge.ts';

/** How an image stood when it was pulled here last. */
export interface ImageStatus {
  readonly image: string;
  readonly manifest: string;
  readonly isLazy: boolean;
  /** Why the image as a whole is not, where no layer says it. */
  readonly reason?: string | undefined;
  readonly layers: readonly JudgedLayer[];
  readonly atMs: number;
  /** Of its layers, as they are pulled; undefined: noted by a version that did not say it. */
  readonly sizeBytes?: number | undefined;
}

const MAX_IMAGES = 1_000;

/** The images that were pulled through the agent of this node, the newest last. */
export class ImageTable {
  readonly #images = new LatestMap<string, ImageStatus>(MAX_IMAGES);
  readonly #onNoted: () => void;
  /** Size of the smallest image that has a layer; undefined: to be counted anew. */
  #smallest: Map<string, number> | undefined;

  /** `former`: of an earlier run. */
  constructor(former: readonly ImageStatus[] = [], onNoted: () => void = () => {}) {
    for (const one of former) this.#images.set(keyOf(one), one);
    this.#onNoted = onNoted;
  }

  note(
    offer: LazyOffer,
    outcome: { readonly isLazy: boolean; readonly reason?: string; readonly layers: readonly JudgedLayer[] },
    atMs: number,
  ): void {
    const image = `${offer.upstream}/${offer.repository}`;
    const { manifest } = offer;
    const { isLazy, reason, layers } = outcome;
    const sizeBytes = offer.layers.reduce((sum, layer) => sum + layer.sizeBytes, 0);
    const status = { image, manifest, isLazy, reason, layers, atMs, sizeBytes };
    this.#images.set(keyOf({ image, manifest }), status);
    this.#smallest = undefined;
    this.#onNoted();
  }

  list(): ImageStatus[] {
    return [...this.#images.values()];
  }

  /** Size of the smallest image that has this layer; undefined where none is known. */
  smallestWith(layer: Digest): number | undefined {
    this.#smallest ??= smallestOf(this.#images.values());
    return this.#smallest.get(layer);
  }
}

function smallestOf(images: Iterable<ImageStatus>): Map<string, number> {
  const smallest = new Map<string, number>();
  for (const { sizeBytes, layers } of images)
    for (const { digest } of layers)
      if (sizeBytes !== undefined && sizeBytes < (smallest.get(digest) ?? Number.POSITIVE_INFINITY))
        smallest.set(digest, sizeBytes);
  return smallest;
}

function keyOf({ image, manifest }: Pick<ImageStatus, 'image' | 'manifest'>): string {
  return `${image}@${manifest}`;
}
