import { fewAtOnce } from '@sepia/base/async/few-at-once';
import { Passes } from '@sepia/base/async/passes';
import type { Digest } from '@sepia/base/digest';
import type { ErrorCode } from '@sepia/base/errors';
import { logFailure, throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { BlobStat, BlobStore } from '@sepia/store/blob-store';
import type { Provenance } from '@sepia/store/sidecar';
import type { BlobIndex } from '../blobs/blob-index.ts';
import { ARRIVAL_AWAY_MS, ARRIVAL_LOOK_MS, ARRIVAL_MS, MIN_ARRIVAL_LOOK_MS } from '../deadlines/upstreams.ts';
import { isPassing, upstreamError } from '../upstream/upstream-failure.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import { arrivalOf, arrived, type Keeping } from './core/arrival.ts';
import { ArrivalBook } from './core/arrival-book.ts';

/** A registry that says so has not got it. */
const UNKNOWN: ReadonlySet<ErrorCode> = new Set(['BLOB_UNKNOWN', 'MANIFEST_UNKNOWN', 'REPOSITORY_UNKNOWN']);
/** Blobs that are held in memory; what is more waits on record. */
const MAX_KNOWN = 10_000;
const LOOKS_AT_ONCE = 4;

interface ArrivalsDeps {
  readonly upstreams: Pick<Upstreams, 'client'>;
  readonly keeping: Keeping;
  /** Whether a push to this repository waits for its registry, by a quorum. @throws `QUORUM_LOST` and the like */
  readonly owes: (place: Provenance) => Promise<boolean>;
  readonly index: Pick<BlobIndex, 'list' | 'onAdded'>;
  readonly store: Pick<BlobStore, 'stat' | 'setAttrs' | 'evict'>;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/**
 * Sees which pushed blobs have come to the registry behind, in every repository that brought them. What this origin saw
 * there for itself, with its size, while no push to these repositories waits, is a cached copy from then on, which may
 * be evicted and is read through again. Any push, or mount, makes it a pushed one again: a push notes its job first, and
 * then {@link kept keeps} what it names, so that one of both is seen here.
 */
export class Arrivals {
  readonly #deps: ArrivalsDeps;
  readonly #book = new ArrivalBook<Digest>({ maxKnown: MAX_KNOWN });
  /** What is looked for in this round, and was not kept by a push since the round began. */
  #looking = new Set<Digest>();
  readonly #awayUntilMs = new Map<string, number>();
  readonly #passes: Passes;
  readonly #isOn: boolean;
  #hasArrived = false;

  constructor(deps: ArrivalsDeps, options: { readonly isOn: boolean }) {
    this.#deps = deps;
    this.#isOn = options.isOn;
    this.#passes = new Passes({
      name: 'arrivals',
      pass: async () => await this.#pass(),
      rest: () =>
        Math.max(
          MIN_ARRIVAL_LOOK_MS,
          Math.min(this.#book.nextMs(deps.nowMs()) ?? ARRIVAL_LOOK_MS, ARRIVAL_LOOK_MS),
        ),
      log: deps.log,
      failed: 'what came to the registry was not looked through; it is again',
    });
    if (options.isOn)
      deps.index.onAdded((digest, sizeBytes) => {
        this.kept(digest);
        this.#book.added(digest, sizeBytes, deps.nowMs());
      });
  }

  /** A push that goes on needs this blob: what was seen of its repositories before is too old to let it go. */
  kept(digest: Digest): void {
    this.#looking.delete(digest);
  }

  start(): void {
    if (this.#isOn) this.#passes.start();
  }

  async stop(): Promise<void> {
    await this.#passes.stop();
  }

  async #pass(): Promise<void> {
    const { store, nowMs, log } = this.#deps;
    await this.#read().catch((error: unknown) =>
      logFailure(log, error, 'pushed blobs cannot be read', {}, 'error'),
    );
    this.#hasArrived = false;
    await this.#round(this.#book.due(nowMs()));
    // What is cached since may be more than the disk is to hold.
    if (this.#hasArrived) await store.evict();
  }

  async #read(): Promise<void> {
    const { index, store, nowMs, keeping } = this.#deps;
    const from = this.#book.readFrom(nowMs());
    if (from === undefined) return;
    for await (const digest of index.list(from.after)) {
      if (this.#passes.signal.aborted) return;
      const stat = await store.stat(digest);
      if (stat === undefined || arrivalOf(stat.attrs, keeping).type === 'never') continue;
      if (!this.#book.read(digest, stat.sizeBytes, nowMs())) return;
    }
    this.#book.readToEnd(from.after === undefined);
  }

  /** All of a round are noted before the first repository is asked what waits there; each is asked once or little more. */
  async #round(digests: readonly Digest[]): Promise<void> {
    this.#looking = new Set(digests);
    const said = new Map<string, boolean>();
    const owes = async (place: Provenance): Promise<boolean> => {
      const key = `${place.upstream}/${place.repository}`;
      const found = said.get(key) ?? (await this.#deps.owes(place));
      said.set(key, found);
      return found;
    };
    const look = async (digest: Digest): Promise<void> => await this.#look(digest, owes);
    await fewAtOnce(digests, LOOKS_AT_ONCE, look, this.#passes.signal);
  }

  async #look(digest: Digest, owes: (place: Provenance) => Promise<boolean>): Promise<void> {
    const { store, keeping, nowMs, log } = this.#deps;
    try {
      const stat = await store.stat(digest);
      const found = stat === undefined ? undefined : arrivalOf(stat.attrs, keeping);
      if (stat === undefined || found === undefined || found.type === 'never') return this.#book.done(digest);
      if (!this.#book.mayLook(digest, nowMs())) return;
      if (found.type === 'later') return this.#book.notYet(digest, nowMs());
      for (const place of found.places) if (await owes(place)) return this.#book.notYet(digest, nowMs());
      const seen = await this.#ask(digest, stat, found.places);
      if (seen === 'away') return this.#book.failed(digest, nowMs());
      if (seen === 'lacking') return this.#book.notYet(digest, nowMs());
      const attrs = await store.setAttrs(digest, (now) =>
        this.#looking.has(digest) ? arrived(now, found.places, keeping) : now,
      );
      if (attrs?.class === 'pushed') return this.#book.notYet(digest, nowMs());
      this.#hasArrived = true;
      this.#book.done(digest);
    } catch (error) {
      if (this.#passes.signal.aborted) return;
      throwIfBug(error);
      this.#book.failed(digest, nowMs());
      log.debug({ digest, err: error }, 'it cannot be said whether the registry has a pushed blob');
    }
  }

  /** `there` only with the size that it has here. `away`: the registry did not answer lately, and is not asked. */
  async #ask(
    digest: Digest,
    { attrs, sizeBytes }: BlobStat,
    places: readonly Provenance[],
  ): Promise<'there' | 'lacking' | 'away'> {
    const { upstreams, nowMs } = this.#deps;
    for (const { upstream, repository: text } of places) {
      if ((this.#awayUntilMs.get(upstream) ?? 0) > nowMs()) return 'away';
      const repository = parseRepositoryName(text);
      const client = upstreams.client(upstream)!;
      const signal = AbortSignal.any([this.#passes.signal, AbortSignal.timeout(ARRIVAL_MS)]);
      try {
        // What was stored as a manifest has its type, known or not.
        const told =
          attrs.mediaType === undefined
            ? await client.headBlob({ repository, digest }, signal)
            : await client.headManifest({ repository, reference: { kind: 'digest', digest } }, signal);
        if (told.sizeBytes !== sizeBytes) return 'lacking';
      } catch (error) {
        const said = upstreamError(error, upstream);
        if (UNKNOWN.has(said.code)) return 'lacking';
        if (isPassing(said)) this.#awayUntilMs.set(upstream, nowMs() + ARRIVAL_AWAY_MS);
        throw error;
      }
    }
    return 'there';
  }
}
