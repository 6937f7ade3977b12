import type { Digest } from '@sepia/base/digest';
import { LatestMap } from '@sepia/base/latest-map';
import type { Logger } from '@sepia/base/log';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { Distrust } from './core/distrust.ts';

/** Most dropped attempts remembered, 32 bytes a MiB of blob each. */
const MAX_SUSPECTS = 1_000;

interface TrustDeps {
  readonly log: Logger;
  readonly nowMs: () => number;
}

/**
 * Which blobs may be streamed, which are served only once verified, and which must not be resumed because a client
 * may hold wrong bytes of them. An attempt that was dropped is only suspected: its pieces went to clients, and
 * whether they were wrong is known when the next attempt is final.
 */
export class Trust {
  readonly #deps: TrustDeps;
  readonly #distrust = new Distrust();
  readonly #suspects = new LatestMap<Digest, Metainfo[]>(MAX_SUSPECTS);

  constructor(deps: TrustDeps) {
    this.#deps = deps;
  }

  /** How a request for the whole blob is to be served. */
  verdict(digest: Digest): 'trusted' | 'verify-first' | 'refused' {
    const verdict = this.#distrust.verdict(digest, this.#deps.nowMs());
    return verdict === 'trusted' && this.#suspects.has(digest) ? 'verify-first' : verdict;
  }

  /** False: `N-` is to be refused. Ask after the blob was verified, where that is waited for. */
  isResumable(digest: Digest): boolean {
    return !this.#distrust.isKnown(digest, this.#deps.nowMs()) && !this.#suspects.has(digest);
  }

  /** An attempt is dropped; its pieces may have been served. */
  suspect(dropped: Metainfo): void {
    if (dropped.knownCount === 0 || dropped.state === 'final') return;
    const known = this.#suspects.get(dropped.digest) ?? [];
    this.#suspects.set(dropped.digest, [...known.slice(-1), Metainfo.decode(dropped.encode())]);
  }

  /** The whole digest of what was served came out wrong. */
  wrong(digest: Digest): void {
    this.#suspects.delete(digest);
    const failures = this.#distrust.note(digest, this.#deps.nowMs());
    this.#deps.log.error(
      { digest, failures },
      'wrong content was on its way; resuming this blob is refused for a day',
    );
  }

  /** The whole digest was right: attempts dropped before had the same pieces, or were wrong. */
  settled(final: Metainfo): void {
    const suspects = this.#suspects.get(final.digest) ?? [];
    this.#suspects.delete(final.digest);
    if (suspects.some((dropped) => contradicts(dropped, final))) this.wrong(final.digest);
  }
}

function contradicts(dropped: Metainfo, final: Metainfo): boolean {
  for (let index = 0; index < final.pieceCount; index++) {
    const hash = dropped.pieceHash(index);
    if (hash !== undefined && !final.matches(index, hash)) return true;
  }
  return false;
}
