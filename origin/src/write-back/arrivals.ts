import { fewAtOnce } from '@sepia/base/async/few-at-once';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { logFailure, throwIfBug } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { isManifestType } from '@sepia/oci/manifest';
import type { BlobStat, BlobStore, Provenance } from '@sepia/store/blob-store';
import { OwedPlan } from '../backend/core/owed-plan.ts';
import type { BlobIndex } from '../blobs/blob-index.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import { arrivalOf, arrived, type Keeping } from './core/arrival.ts';

const TIMES = {
  lookMs: 2_000,
  takeOverMs: Number.POSITIVE_INFINITY,
  firstRetryMs: 15_000,
  maxRetryMs: 3_600_000,
};
/** Blobs that are held in memory; what is more waits on record. */
const MAX_KNOWN = 10_000;
const LOOKS_AT_ONCE = 4;
/** One that did not come after so many looks (about two hours) makes room for others, where there are many. */
const MAX_LOOKS = 12;
/** A registry that does not answer is not asked for this long, in ms. */
const AWAY_MS = 30_000;
const ASK_MS = 15_000;
const REST_MS = 60_000;

interface ArrivalsDeps {
  readonly upstreams: Pick<Upstreams, 'client'>;
  readonly keeping: Keeping;
  readonly index: Pick<BlobIndex, 'list' | 'onAdded'>;
  readonly store: Pick<BlobStore, 'stat' | 'setAttrs' | 'evict'>;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/**
 * Sees which pushed blobs have come to the registry behind, in every repository that brought them. What this origin saw
 * there for itself is a cached copy from then on, which may be evicted and is read through again. Any push, or mount,
 * makes it a pushed one again.
 */
export class Arrivals {
  readonly #deps: ArrivalsDeps;
  readonly #plan = new OwedPlan({ times: TIMES, maxKnown: MAX_KNOWN });
  readonly #looks = new Map<Digest, number>();
  readonly #awayUntilMs = new Map<string, number>();
  readonly #stopped = new AbortController();
  readonly #isOn: boolean;
  #hasArrived = false;
  #loop: Promise<void> | undefined;

  constructor(deps: ArrivalsDeps, options: { readonly isOn: boolean }) {
    this.#deps = deps;
    this.#isOn = options.isOn;
    if (options.isOn)
      deps.index.onAdded((digest, sizeBytes) => this.#plan.add(digest, sizeBytes, deps.nowMs()));
  }

  start(): void {
    if (this.#isOn)
      this.#loop = this.#forever().catch((error: unknown) => {
        if (!this.#stopped.signal.aborted)
          logFailure(this.#deps.log, error, 'what came to the registry is not looked for', {}, 'error');
      });
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new CodedError('DRAINING'));
    await this.#loop;
  }

  async #forever(): Promise<void> {
    const { store, nowMs, log } = this.#deps;
    const { signal } = this.#stopped;
    do {
      if (this.#plan.wantsMore)
        await this.#read().catch((error: unknown) =>
          logFailure(log, error, 'pushed blobs cannot be read', {}, 'error'),
        );
      this.#hasArrived = false;
      const look = async (digest: Digest): Promise<void> => await this.#look(digest);
      await fewAtOnce(this.#plan.due(nowMs()) as Digest[], LOOKS_AT_ONCE, look, signal);
      // What is cached since may be more than the disk is to hold.
      if (this.#hasArrived) await store.evict();
    } while (
      await pause(Math.max(1_000, Math.min(this.#plan.nextMs(nowMs()) ?? REST_MS, TIMES.lookMs)), signal)
    );
  }

  async #read(): Promise<void> {
    const { index, store, nowMs } = this.#deps;
    for await (const digest of index.list()) {
      if (this.#stopped.signal.aborted) return;
      const stat = await store.stat(digest);
      if (stat === undefined || arrivalOf(stat.attrs, this.#deps.keeping).type === 'never') continue;
      if (!this.#plan.add(digest, stat.sizeBytes, nowMs())) return;
    }
    this.#plan.allRead();
  }

  async #look(digest: Digest): Promise<void> {
    const { store, keeping, nowMs, log } = this.#deps;
    try {
      const stat = await store.stat(digest);
      const found = stat === undefined ? undefined : arrivalOf(stat.attrs, keeping);
      if (stat === undefined || found === undefined || found.type === 'never') return this.#done(digest);
      if (this.#plan.step(digest, false, nowMs()) === 'wait') return;
      const seen = found.type === 'later' ? 'lacking' : await this.#ask(digest, stat, found.places);
      if (seen === 'away') return void this.#plan.failed(digest, undefined, nowMs());
      if (found.type === 'later' || seen === 'lacking') return this.#notYet(digest);
      const attrs = await store.setAttrs(digest, (now) => arrived(now, found.places, keeping));
      if (attrs?.class === 'pushed') return this.#notYet(digest);
      this.#hasArrived = true;
      this.#done(digest);
    } catch (error) {
      if (this.#stopped.signal.aborted) return;
      throwIfBug(error);
      this.#plan.failed(digest, undefined, nowMs());
      log.debug({ digest, err: error }, 'the registry does not say whether it has a pushed blob');
    }
  }

  /** `away`: the registry did not answer lately, and is not asked. */
  async #ask(
    digest: Digest,
    { attrs }: BlobStat,
    places: readonly Provenance[],
  ): Promise<'there' | 'lacking' | 'away'> {
    const { upstreams, nowMs } = this.#deps;
    for (const { upstream, repository: text } of places) {
      if ((this.#awayUntilMs.get(upstream) ?? 0) > nowMs()) return 'away';
      const repository = parseRepositoryName(text);
      const client = upstreams.client(upstream)!;
      const signal = AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(ASK_MS)]);
      try {
        if (isManifestType(attrs.mediaType ?? ''))
          await client.headManifest({ repository, reference: { kind: 'digest', digest } }, signal);
        else await client.headBlob({ repository, digest }, signal);
      } catch (error) {
        if (isCoded(error, 'BLOB_UNKNOWN') || isCoded(error, 'MANIFEST_UNKNOWN')) return 'lacking';
        this.#awayUntilMs.set(upstream, nowMs() + AWAY_MS);
        throw error;
      }
    }
    return 'there';
  }

  #notYet(digest: Digest): void {
    const looks = (this.#looks.get(digest) ?? 0) + 1;
    this.#looks.set(digest, looks);
    if (looks >= MAX_LOOKS && this.#plan.size >= MAX_KNOWN / 2) this.#done(digest);
    else this.#plan.notYet(digest, this.#deps.nowMs());
  }

  #done(digest: Digest): void {
    this.#looks.delete(digest);
    this.#plan.done(digest);
  }
}
