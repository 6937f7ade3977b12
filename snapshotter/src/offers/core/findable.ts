import type { Digest } from '@sepia/base/digest';
import { LatestMap } from '@sepia/base/latest-map';

/** A layer of an image that is being pulled here, and the diffID that its image's config gives it without a proof. */
export interface Claim {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly diffId: Digest;
  /** Where the layer can be read. */
  readonly upstream: string;
  readonly repository: string;
}

/** How long a pull may go on looking for layers after its config went out, in ms. */
const CLAIM_MS = 24 * 60 * 60_000;
const MAX_CLAIMS = 50_000;

/**
 * What containerd finds by diffID, and who looks. It looks for a layer when it comes to it: long after the config went
 * out where the layers below are large. So an image that went out without a proof may find what is shown later, and for
 * as long as its pull may last nothing is shown under a diffID that it claims, unless the claim was proven true.
 * Pure: time is passed in, in ms.
 */
export class Findable {
  readonly #shown: Set<Digest>;
  readonly #claims = new LatestMap<string, Claim & { readonly untilMs: number }>(MAX_CLAIMS);

  /** `shown`: what is there already. */
  constructor(shown: Iterable<Digest> = []) {
    this.#shown = new Set(shown);
  }

  isShown(diffId: Digest): boolean {
    return this.#shown.has(diffId);
  }

  /** An image goes out that may look for these. */
  claim(claims: readonly Claim[], nowMs: number): void {
    for (const one of claims)
      this.#claims.set(`${one.diffId} ${one.digest}`, { ...one, untilMs: nowMs + CLAIM_MS });
  }

  /**
   * Claims that keep diffIDs from being shown; where there are none, they count as shown from now on.
   * `holds` tells what a layer was found to hold.
   */
  show(diffIds: readonly Digest[], holds: (layer: Digest) => Digest | undefined, nowMs: number): Claim[] {
    const fresh = new Set(diffIds.filter((one) => !this.#shown.has(one)));
    const open = [...this.#claims.values()].filter(
      ({ diffId, digest, untilMs }) => fresh.has(diffId) && untilMs > nowMs && holds(digest) !== diffId,
    );
    if (open.length === 0) for (const one of fresh) this.#shown.add(one);
    return open;
  }
}
