import { LatestMap } from '@sepia/base/latest-map';
import { linkKey } from '@sepia/base/names/blob-name';

/** Most descriptors remembered: about 40 MB at 160 bytes each. */
const MAX_HINTS = 200_000;

/** What a manifest that passed said of a blob in a repository. It also proves the link. */
export interface Hint {
  readonly sizeBytes: number;
  readonly mediaType: string;
}

/** Descriptors of manifests that passed, by upstream, repository and digest; the oldest go first. */
export class Hints {
  readonly #byKey = new LatestMap<string, Hint>(MAX_HINTS);

  note(upstream: string, repository: string, digest: string, hint: Hint): void {
    const key = linkKey({ upstream, repository, digest });
    this.#byKey.set(key, hint);
  }

  get(upstream: string, repository: string, digest: string): Hint | undefined {
    return this.#byKey.get(linkKey({ upstream, repository, digest }));
  }

  /** Forgets one descriptor, or all of the repository. */
  forget(upstream: string, repository: string, digest?: string): void {
    if (digest !== undefined) {
      this.#byKey.delete(linkKey({ upstream, repository, digest }));
      return;
    }
    const prefix = linkKey({ upstream, repository, digest: '' });
    for (const key of this.#byKey.keys()) if (key.startsWith(prefix)) this.#byKey.delete(key);
  }
}
