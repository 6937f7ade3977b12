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
}

const MAX_IMAGES = 1_000;

/** The images that were pulled through the agent of this node, the newest last. */
export class ImageTable {
  readonly #images = new LatestMap<string, ImageStatus>(MAX_IMAGES);
  readonly #onNoted: () => void;

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
    this.#images.set(keyOf({ image, manifest }), { image, manifest, isLazy, reason, layers, atMs });
    this.#onNoted();
  }

  list(): ImageStatus[] {
    return [...this.#images.values()];
  }
}

function keyOf({ image, manifest }: Pick<ImageStatus, 'image' | 'manifest'>): string {
  return `${image}@${manifest}`;
}
