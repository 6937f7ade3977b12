import type { Digest } from '@sepia/base/digest';
import type { LayerKind } from '@sepia/lazy/index/layer-index';
import { CLAIM_MS } from '../../deadlines.ts';

/** A layer of an image that is being pulled here, and the diffID that its image's config gives it without a proof. */
export interface Claim {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly diffId: Digest;
  /** Where the layer can be read. */
  readonly upstream: string;
  readonly repository: string;
  /** Manifest of the image, and the kind that it takes the layer for. */
  readonly manifest: Digest;
  readonly part: LayerKind;
}

const MAX_CLAIMS = 50_000;

/** Whether diffIDs could be shown. */
export interface Showing {
  readonly isShown: boolean;
  /** Claims that stand in the way. None although nothing is shown: there were more than can be kept. */
  readonly claims: readonly Claim[];
}

/**
 * What containerd finds by diffID, and who looks. It looks for a layer when it comes to it: long after the config went
 * out where the layers below are large. So an image that went out without a proof may find what is shown later, and for
 * as long as its pull may last nothing is shown under a diffID that it claims, unless the claim was proven true.
 * Pure: time is passed in, in ms.
 */
export class Findable {
  readonly #shown: Set<Digest>;
  readonly #limit: number;
  readonly #claims = new Map<string, Claim & { readonly untilMs: number }>();
  /** Until then a claim may be under way that is not among those above. */
  #unknownUntilMs = Number.NEGATIVE_INFINITY;

  /** `shown`: what is there already; `limit`: claims that are kept. */
  constructor(shown: Iterable<Digest> = [], limit = MAX_CLAIMS) {
    this.#shown = new Set(shown);
    this.#limit = limit;
  }

  isShown(diffId: Digest): boolean {
    return this.#shown.has(diffId);
  }

  /** A layer is shown no longer. */
  hidden(diffId: Digest): void {
    this.#shown.delete(diffId);
  }

  /** An image goes out that may look for these. */
  claim(claims: readonly Claim[], nowMs: number): void {
    const untilMs = nowMs + CLAIM_MS;
    for (const one of claims) {
      // Ordinary images mean the same by the same bytes; what a Nydus image means hangs on its other layers.
      const image = one.part === 'layer' ? '' : `${one.upstream} ${one.repository} ${one.manifest}`;
      const key = `${one.diffId} ${one.digest} ${image}`;
      if (this.#claims.size >= this.#limit && !this.#claims.has(key)) this.#forgetOld(nowMs);
      // None is dropped for another's sake: whoever makes many would be rid of one.
      if (this.#claims.size >= this.#limit && !this.#claims.has(key)) this.#unknownUntilMs = untilMs;
      else this.#claims.set(key, { ...one, untilMs });
    }
  }

  /**
   * Whether diffIDs may be shown; then they count as shown from now on. All or none. `holds` tells what the layer of
   * a claim was found to hold.
   */
  show(diffIds: readonly Digest[], holds: (claim: Claim) => Digest | undefined, nowMs: number): Showing {
    const fresh = new Set(diffIds.filter((one) => !this.#shown.has(one)));
    const claims = [...this.#claims.values()].filter(
      (one) => fresh.has(one.diffId) && one.untilMs > nowMs && holds(one) !== one.diffId,
    );
    const isShown = fresh.size === 0 || (claims.length === 0 && this.#unknownUntilMs <= nowMs);
    if (isShown) for (const one of fresh) this.#shown.add(one);
    return { isShown, claims };
  }

  #forgetOld(nowMs: number): void {
    for (const [key, { untilMs }] of this.#claims) if (untilMs <= nowMs) this.#claims.delete(key);
  }
}
