import { SingleFlight } from '@sepia/base/async/single-flight';
import { isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { linkKey } from '@sepia/base/names/blob-name';
import type { Revocation } from '@sepia/cluster/api/revocation';
import { isDefinite } from '@sepia/cluster/core/answers';
import type { LinkLedger } from '@sepia/cluster/core/link-ledger';
import type { BlobStore } from '@sepia/store/blob-store';
import type { OriginClient } from '../cluster/origin-client.ts';
import { LINK_MS } from '../deadlines.ts';
import type { Hints } from './core/hints.ts';
import type { Seeds } from './seeds.ts';

/** Links that the cluster vouched for; those of upstreams that take no deletes are believed unasked. */
export type LinkProofs = LinkLedger<true>;

interface LinksDeps {
  readonly proofs: LinkProofs;
  readonly hints: Hints;
  readonly origins: OriginClient;
  readonly store: BlobStore;
  readonly seeds: Seeds;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/** The links by which blobs are served here: proven again when they may have been deleted, dropped when they were. */
export class Links {
  readonly #deps: LinksDeps;
  readonly #asking = new SingleFlight<string, void>();

  constructor(deps: LinksDeps) {
    this.#deps = deps;
  }

  /** Asks the cluster unless it vouched for the link lately. Passes when nobody answers. @throws `BLOB_UNKNOWN` */
  async require(name: BlobName, signal: AbortSignal): Promise<void> {
    if (this.#deps.proofs.isBelieved(name, this.#deps.nowMs())) return;
    const key = linkKey(name);
    await this.#asking.share(key, async () => await this.#ask(name), signal);
  }

  /** Drops what is kept by links that are no more; a blob that has another link stays. Idempotent. */
  async drop(revoked: readonly Revocation[]): Promise<void> {
    const { proofs, hints, store, seeds, log } = this.#deps;
    proofs.revoke(revoked);
    for (const { upstream, repository, digest } of revoked) {
      hints.forget(upstream, repository, digest);
      try {
        const attrs = await store.setAttrs(digest, (before) => ({
          ...before,
          provenance: before.provenance.filter(
            (one) => one.upstream !== upstream || one.repository !== repository,
          ),
        }));
        if (attrs === undefined || attrs.provenance.length > 0) continue;
        // It may have another link by now. Whoever has it open can have it seeded until it is gone.
        await store
          .deleteUnless(digest, (now) => (now?.provenance.length ?? 0) > 0)
          .finally(() => seeds.drop(digest));
      } catch (error) {
        throwIfBug(error);
        log.warn({ err: error, digest, repository }, 'a deleted blob is still in the cache');
      }
    }
  }

  async #ask(name: BlobName): Promise<void> {
    const { proofs, origins, log, nowMs } = this.#deps;
    const lookUp = proofs.begin(nowMs());
    try {
      await origins.sizeBytes(name, AbortSignal.timeout(LINK_MS));
      proofs.note(name, true, lookUp);
    } catch (error) {
      throwIfBug(error);
      if (isCoded(error, 'BLOB_UNKNOWN')) await this.drop([name]);
      if (isDefinite(error)) throw error;
      log.debug({ digest: name.digest, reason: String(error) }, 'nobody says whether a link is still there');
    }
  }
}
