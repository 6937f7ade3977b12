import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { linkKey } from '@sepia/base/names/blob-name';
import type { Fence } from './core/fence.ts';

interface ContentName {
  readonly upstream: string;
  readonly repository: string;
  readonly digest: Digest;
}

interface ContentGuardDeps {
  readonly fence: Fence;
  /** Monotonic, in ms. */
  readonly elapsedMs: () => number;
}

/** What pushes, mounts and tag moves of this origin do at the {@link Fence} of a running garbage collection. */
export class ContentGuard {
  readonly #deps: ContentGuardDeps;

  constructor(deps: ContentGuardDeps) {
    this.#deps = deps;
  }

  /** Runs `work`, which relies on content that is there and links it anew. @throws `CONTENT_SWEPT` */
  async using<T>(names: readonly ContentName[], work: () => Promise<T>): Promise<T> {
    const { fence, elapsedMs } = this.#deps;
    const keys = [...new Set(names.flatMap((name) => [name.digest, linkKey(name)]))];
    const condemned = fence.use(keys, elapsedMs());
    if (condemned !== undefined) {
      const { digest } = names.find((name) => name.digest === condemned || linkKey(name) === condemned)!;
      throw new CodedError('CONTENT_SWEPT', {
        message: `nothing referred to ${digest} and it is being collected at this moment; repeat the push`,
        detail: { digest, retryAfterSeconds: 1 },
      });
    }
    try {
      return await work();
    } finally {
      fence.done(keys);
    }
  }

  /** Runs `work`, which brings the bytes: they stay. */
  async writing<T>(digest: Digest, work: () => Promise<T>): Promise<T> {
    const keys = [digest];
    this.#deps.fence.write(keys);
    try {
      return await work();
    } finally {
      this.#deps.fence.done(keys);
    }
  }

  /** Another member is told that the bytes are here: they stay. */
  rescue(digest: Digest): void {
    this.#deps.fence.rescue(digest);
  }

  /** The link is about to be buried unless it is written anew. */
  isCondemned(name: ContentName): boolean {
    return this.#deps.fence.isCondemned(linkKey(name), this.#deps.elapsedMs());
  }
}
