import { LatestMap } from '@sepia/base/latest-map';
import type { LazyOffer } from '@sepia/cluster/api/lazy-offers';
import type { JudgedLayer } from './core/judge.ts';

/** How an image stood when it was pulled here last. */
export interface ImageStatus {
  readonly image: string;
  readonly manifest: string;
  readonly isLazy: boolean;
  /** Why the image as a whole is not, where no layer says it. */
  readonly reason: string | undefined;
  readonly layers: readonly JudgedLayer[];
  readonly atMs: number;
}

const MAX_IMAGES = 1_000;

/** The images that were pulled through the agent of this node, the newest last. */
export class ImageTable {
  readonly #images = new LatestMap<string, ImageStatus>(MAX_IMAGES);

  note(
    offer: LazyOffer,
    outcome: { readonly isLazy: boolean; readonly reason?: string; readonly layers: readonly JudgedLayer[] },
    atMs: number,
  ): void {
    const image = `${offer.upstream}/${offer.repository}`;
    const key = `${image}@${offer.manifest}`;
    const { isLazy, reason, layers } = outcome;
    this.#images.set(key, { image, manifest: offer.manifest, isLazy, reason, layers, atMs });
  }

  list(): ImageStatus[] {
    return [...this.#images.values()];
  }
}
