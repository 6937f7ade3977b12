import { LatestMap } from '@sepia/base/latest-map';
import { linkKey } from '@sepia/base/names/blob-name';
import type { Revocation } from '@sepia/cluster/api/revocation';

/** How long a link that the cluster named is believed where links can be deleted, in ms. */
const BELIEF_MS = 30_000;
/** Most links remembered; the oldest go first. */
const MAX_PROOFS = 100_000;

/**
 * When the cluster last vouched for a link (upstream, repository, digest). The node hears of deletes with its leases;
 * a belief that ends bounds how long it goes on when it did not. Pure.
 */
export class LinkProofs {
  readonly #takesDeletes: (upstream: string) => boolean;
  readonly #atMs = new LatestMap<string, number>(MAX_PROOFS);
  #revision = 0;

  /** `takesDeletes`: false for upstreams whose links stay; these are always believed. */
  constructor(takesDeletes: (upstream: string) => boolean) {
    this.#takesDeletes = takesDeletes;
  }

  /** Grows with each revocation: see {@link note}. */
  get revision(): number {
    return this.#revision;
  }

  /** False: the cluster must be asked before what is kept here is served. */
  isBelieved(name: Revocation, nowMs: number): boolean {
    if (!this.#takesDeletes(name.upstream)) return true;
    const atMs = this.#atMs.get(linkKey(name));
    return atMs !== undefined && nowMs - atMs < BELIEF_MS;
  }

  /** The cluster vouched for it, asked at `revision`; nothing is noted if something was revoked since. */
  note(name: Revocation, nowMs: number, revision: number): void {
    if (revision !== this.#revision || !this.#takesDeletes(name.upstream)) return;
    const key = linkKey(name);
    this.#atMs.set(key, nowMs);
  }

  revoke(revoked: readonly Revocation[]): void {
    this.#revision += 1;
    for (const name of revoked) this.#atMs.delete(linkKey(name));
  }
}
