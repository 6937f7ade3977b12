import { Slots } from '@sepia/base/async/slots';
import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { Replicator } from '../blobs/replicator.ts';
import type { Members } from '../cluster/members.ts';
import { CACHED_LOOK_MS, CACHED_RETRY_MS } from '../deadlines/members.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import { cachedOwners } from './core/cached-owners.ts';

const MAX_LOOKED = 100_000;
/** Blobs that are copied at once; more wait, and of those beyond that the next reader reminds. */
const COPIES = 2;
const MAX_WAITING = 10_000;

interface CachedCopiesDeps {
  readonly members: Pick<Members, 'selfId' | 'placement'>;
  readonly upstreams: Pick<Upstreams, 'get'>;
  readonly replicator: Pick<Replicator, 'offer'>;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/**
 * Copies of cached blobs beside the one that came from the upstream: as many as the upstream's `cached-replicas` says, at the
 * first owners of the ring. Nobody waits for them and they are never owed: each may be evicted, and comes again with its upstream.
 */
export class CachedCopies {
  readonly #deps: CachedCopiesDeps;
  /** When each is looked after again. */
  readonly #dueMs = new LatestMap<Digest, number>(MAX_LOOKED);
  readonly #slots = new Slots({
    slots: COPIES,
    limits: { queueLimit: MAX_WAITING, refusal: () => new CodedError('OVERLOADED') },
  });
  readonly #running = new Set<Promise<void>>();
  readonly #stopped = new AbortController();

  constructor(deps: CachedCopiesDeps) {
    this.#deps = deps;
  }

  /** Resolves when no copy is under way any more. */
  async stop(): Promise<void> {
    this.#stopped.abort(new CodedError('DRAINING'));
    await Promise.all(this.#running);
  }

  /** A cached blob is here: it was fetched, or is read. Who has a copy already gets none. */
  lookAfter(name: BlobName): void {
    const { members, upstreams, nowMs } = this.#deps;
    const { digest, upstream } = name;
    const copies = upstreams.get(upstream)['cached-replicas'];
    if (copies === 1 || nowMs() < (this.#dueMs.get(digest) ?? 0)) return;
    this.#dueMs.set(digest, nowMs() + CACHED_LOOK_MS);
    const targets = cachedOwners(members.placement(digest), copies).filter((id) => id !== members.selfId);
    const copying = this.#copy(name, targets).finally(() => this.#running.delete(copying));
    this.#running.add(copying);
  }

  async #copy(name: BlobName, targets: readonly string[]): Promise<void> {
    const { replicator, log, nowMs } = this.#deps;
    const { signal } = this.#stopped;
    const { digest } = name;
    try {
      const copyAll = async (): Promise<void> => {
        for (const target of targets) await replicator.offer(name, target, signal);
      };
      await this.#slots.run(copyAll, signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#dueMs.set(digest, nowMs() + CACHED_RETRY_MS);
      logFailure(log, error, 'a cached blob was not copied', { digest, targets }, 'debug');
    }
  }
}
