import { askInTurn } from '@sepia/base/async/ask-many';
import { SingleFlight } from '@sepia/base/async/single-flight';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isUpstreamFailure } from '@sepia/base/errors';
import { logFailure, throwIfBug } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import { delay, pause } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { type BlobName, linkKey } from '@sepia/base/names/blob-name';
import type { PeerEntry } from '@sepia/cluster/api/join';
import { LINK_BELIEF_MS, type Revocation } from '@sepia/cluster/api/revocation';
import type { Cluster } from '@sepia/cluster/cluster';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import { HASH_BYTES } from '@sepia/metainfo/tree';
import { chooseOrigins } from './core/locate.ts';
import { isCertain, type Origins, type Wish } from './origins.ts';

/** Wait of one poll at the leader, in ms; short, so that a stopped leader is noticed within about a second. */
const POLL_MS = 400;
/** Time that a blob may stay without any origin that goes on with it, in ms. */
const ORPHAN_MS = 30_000;
const RETRY_MS = 200;
/** A blob of which only ranges are wanted is followed until nobody asked about it for this long, in ms. */
const RANGES_IDLE_MS = 30_000;
/** How often holders that failed are looked for again. */
const HOLDER_TRIES = 8;
/** How long a proven link (upstream, repository) → digest is believed where nothing is deleted, in ms. */
const LINK_TTL_MS = 60_000;
const MAX_LINKS = 100_000;

/** A blob that the tracker follows. */
export interface Tracked {
  readonly metainfo: Metainfo;
  /** Origins that hold it or fetch it now. */
  readonly originIds: readonly string[];
}

interface Entry {
  metainfo: Metainfo;
  originIds: readonly string[];
  /** Somebody wants the whole blob; else only what is read is fetched. */
  wantsAll: boolean;
  askedMs: number;
  poller: AbortController | undefined;
  readonly waiters: Set<() => void>;
  failed: unknown;
}

/** Whoever only asks what is known wants nothing fetched. */
const WATCHING: Wish = { all: false };

interface KeeperDeps {
  readonly cluster: Cluster;
  readonly origins: Origins;
  readonly log: Logger;
  readonly nowMs: () => number;
  /** Agents with pieces of an open blob. */
  readonly holders: (digest: Digest) => PeerEntry[];
}

/**
 * Metainfo by digest and upstream: located once for all that join, followed while open (also to a new leader when the
 * old one dies or hangs), kept when final, least recently used first out. What one upstream has sent so far is not told
 * under another: an open blob of theirs may never come to its end.
 */
export class MetainfoKeeper {
  readonly #deps: KeeperDeps;
  readonly #budgetBytes: number;
  readonly #entries = new Map<string, Entry>();
  readonly #locating = new SingleFlight<string, Entry>();
  readonly #links = new LatestMap<string, number>(MAX_LINKS);
  readonly #stopped = new AbortController();
  #bytes = 0;
  /** Grows with each revocation: a link that was asked for before one is not believed. */
  #revision = 0;

  constructor(deps: KeeperDeps, options: { readonly budgetBytes: number }) {
    this.#deps = deps;
    this.#budgetBytes = options.budgetBytes;
  }

  /** Metainfo and holders of a blob; asks the origins when it is not known here or its link is not proven. */
  async get(name: BlobName, wish: Wish = WATCHING): Promise<Tracked> {
    const entry = await this.#get(name, wish);
    entry.askedMs = this.#deps.nowMs();
    if (wish.all) this.#raise(name, entry);
    return entry;
  }

  async #get(name: BlobName, wish: Wish): Promise<Entry> {
    const known = this.#entries.get(entryKey(name));
    const proven = (this.#links.get(linkKey(name)) ?? 0) > this.#deps.nowMs();
    if (known !== undefined && proven && known.failed === undefined) {
      this.#touch(name, known);
      return known;
    }
    const revision = this.#revision;
    const entry = await this.#locating.share(linkKey(name), async () => await this.#locate(name, wish));
    if (revision === this.#revision) this.#prove(name);
    return entry;
  }

  /** Waits until there is more than `etag` says, at most `waitMs`. Undefined when there was nothing new. */
  async wait(
    name: BlobName,
    etag: string,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<Metainfo | undefined> {
    const entry = await this.#get(name, WATCHING);
    entry.askedMs = this.#deps.nowMs();
    if (entry.metainfo.etag !== etag) return entry.metainfo;
    let wake = (): void => undefined;
    const news = new Promise<void>((resolve) => {
      wake = resolve;
      entry.waiters.add(resolve);
    });
    try {
      const late = new AbortController();
      await Promise.race([news, pause(waitMs, AbortSignal.any([signal, late.signal]))]);
      late.abort();
    } finally {
      entry.waiters.delete(wake);
    }
    if (entry.failed !== undefined) throw entry.failed;
    return entry.metainfo.etag === etag ? undefined : entry.metainfo;
  }

  /** All blobs followed now, for people who look. */
  *running(): Generator<[Digest, Tracked]> {
    for (const entry of this.#entries.values()) yield [entry.metainfo.digest, entry];
  }

  /** Forgets who holds a blob, after an agent could not get it from those named. */
  doubt(digest: Digest): void {
    for (const entry of this.#entries.values())
      if (entry.metainfo.digest === digest && entry.metainfo.state === 'final') entry.originIds = [];
  }

  /** Links that are no more: the next that asks by one of them is answered by the origins. */
  revoke(revoked: readonly Revocation[]): void {
    this.#revision += 1;
    for (const name of revoked) {
      this.#links.delete(linkKey(name));
      this.#locating.forget(linkKey(name));
    }
  }

  stop(): void {
    this.#stopped.abort(new CodedError('DRAINING'));
    for (const entry of this.#entries.values()) this.#wake(entry);
  }

  /** From now on the whole blob is wanted; a leader that fetches ranges alone is told, and again by each poll. */
  #raise(name: BlobName, entry: Entry): void {
    if (entry.wantsAll) return;
    entry.wantsAll = true;
    const [leader] = entry.originIds;
    if (entry.metainfo.state !== 'open' || leader === undefined) return;
    this.#deps.origins
      .metainfo(leader, name, true, { all: true }, this.#stopped.signal)
      .catch((error: unknown) =>
        logFailure(this.#deps.log, error, 'leader does not hear', { digest: name.digest, leader }, 'debug'),
      );
  }

  async #locate(name: BlobName, wish: Wish): Promise<Entry> {
    const known = this.#entries.get(entryKey(name));
    const all = wish.all || known?.wantsAll === true;
    try {
      const { metainfo, originIds } = await this.#ask(
        name,
        known?.failed === undefined ? known?.metainfo : undefined,
        { ...wish, all },
        false,
      );
      return this.#keep(name, metainfo, originIds, all);
    } catch (error) {
      throwIfBug(error);
      // With no origin left, what is known still lets a running swarm finish (design, "If it dies").
      const kept = this.#entries.get(entryKey(name));
      if (
        !isCertain(error) &&
        kept !== undefined &&
        kept.failed === undefined &&
        this.#links.has(linkKey(name))
      )
        return kept;
      throw error;
    }
  }

  /** `isOrphan`: the leader of what is known is gone; whoever fetches the blob now is told of it. */
  async #ask(
    name: BlobName,
    known: Metainfo | undefined,
    wish: Wish,
    isOrphan: boolean,
    tries = HOLDER_TRIES,
  ): Promise<{ metainfo: Metainfo; originIds: readonly string[] }> {
    const { origins, holders } = this.#deps;
    const signal = this.#stopped.signal;
    const answers = await origins.where(name, signal);
    const choice = chooseOrigins(answers, origins.candidates(name.digest).ownerIds);
    if (choice.originIds.length === 0)
      throw new CodedError('NO_PEERS', { message: 'no origin answers', detail: { digest: name.digest } });
    const isRefused = (error: unknown): boolean => isCertain(error) || isUpstreamFailure(error);
    const adoptable =
      (choice.type === 'fetch' || (isOrphan && choice.state === 'open')) &&
      known?.state === 'open' &&
      known.knownCount > 0
        ? known
        : undefined;
    const ask = async (originId: string): Promise<{ metainfo: Metainfo; originIds: readonly string[] }> => {
      const metainfo =
        adoptable !== undefined
          ? await origins.adopt(originId, name, adoptable, holders(name.digest), wish, signal)
          : await origins.metainfo(originId, name, choice.type === 'fetch', wish, signal);
      const isHeld = choice.type === 'holders' && choice.state === 'final';
      return { metainfo, originIds: isHeld ? choice.originIds : [originId] };
    };
    try {
      const isFinal = (error: unknown): boolean => choice.type === 'fetch' && isRefused(error);
      return await askInTurn(choice.originIds, ask, { isFinal });
    } catch (error) {
      throwIfBug(error);
      // Those that had it are stopping or just died: a moment later they are silent, and others are asked.
      if (choice.type !== 'holders' || tries <= 1 || isRefused(error)) throw error;
      await delay(RETRY_MS, signal);
      return await this.#ask(name, known, wish, isOrphan, tries - 1);
    }
  }

  #keep(name: BlobName, metainfo: Metainfo, originIds: readonly string[], wantsAll: boolean): Entry {
    let entry = this.#entries.get(entryKey(name));
    if (entry === undefined || entry.failed !== undefined) {
      entry?.poller?.abort();
      entry = {
        metainfo,
        originIds,
        wantsAll,
        askedMs: this.#deps.nowMs(),
        poller: undefined,
        waiters: entry?.waiters ?? new Set(),
        failed: undefined,
      };
      this.#entries.set(entryKey(name), entry);
    } else {
      this.#take(entry, metainfo);
      entry.originIds = originIds;
    }
    if (entry.metainfo.state === 'open' && entry.poller === undefined) this.#follow(name, entry);
    this.#touch(name, entry);
    this.#trim();
    return entry;
  }

  #take(entry: Entry, news: Metainfo): void {
    const outcome = entry.metainfo.merge(news);
    if (outcome === 'replaced') entry.metainfo = news;
    if (outcome === 'contested')
      this.#deps.log.error(
        { digest: news.digest },
        'origins vouch for different bytes of one blob: one has a false sidecar',
      );
    this.#wake(entry);
  }

  /** Follows an open blob at its leader; when that one fails, finds the next. */
  #follow(name: BlobName, entry: Entry): void {
    const poller = new AbortController();
    entry.poller = poller;
    const signal = AbortSignal.any([poller.signal, this.#stopped.signal]);
    void this.#followLoop(name, entry, signal)
      .catch((error: unknown) => {
        if (signal.aborted) return;
        logFailure(this.#deps.log, error, 'an open blob was given up', { digest: name.digest });
        entry.failed = error;
        this.#wake(entry);
      })
      .finally(() => {
        if (entry.poller === poller) entry.poller = undefined;
      });
  }

  async #followLoop(name: BlobName, entry: Entry, signal: AbortSignal): Promise<void> {
    let orphanSinceMs: number | undefined;
    while (entry.metainfo.state === 'open') {
      signal.throwIfAborted();
      if (this.#isForgotten(entry)) return void this.#entries.delete(entryKey(name));
      const leader = entry.originIds[0];
      try {
        if (leader === undefined) throw new CodedError('NO_PEERS');
        const news = await this.#deps.origins.poll(
          leader,
          name,
          entry.metainfo,
          wishOf(entry),
          POLL_MS,
          signal,
        );
        orphanSinceMs = undefined;
        if (news !== undefined) this.#take(entry, news);
      } catch (error) {
        throwIfBug(error);
        signal.throwIfAborted();
        if (isCertain(error) && orphanSinceMs !== undefined) throw error;
        orphanSinceMs ??= this.#deps.nowMs();
        if (this.#deps.nowMs() - orphanSinceMs > ORPHAN_MS) throw error;
        this.#deps.log.info(
          { digest: name.digest, leader, err: error },
          'leader is gone; looking for the next',
        );
        await this.#nextLeader(name, entry, signal);
      }
    }
  }

  async #nextLeader(name: BlobName, entry: Entry, signal: AbortSignal): Promise<void> {
    try {
      const { metainfo, originIds } = await this.#ask(name, entry.metainfo, wishOf(entry), true);
      this.#take(entry, metainfo);
      entry.originIds = originIds;
    } catch (error) {
      throwIfBug(error);
      if (isCertain(error)) throw error;
      await delay(RETRY_MS, signal);
    }
  }

  /** Ranges of it were read, and nobody asks any more. */
  #isForgotten(entry: Entry): boolean {
    if (entry.wantsAll || entry.waiters.size > 0) return false;
    return this.#deps.nowMs() - entry.askedMs > RANGES_IDLE_MS;
  }

  #wake(entry: Entry): void {
    for (const wake of entry.waiters) wake();
    entry.waiters.clear();
  }

  #prove(name: BlobName): void {
    const nowMs = this.#deps.nowMs();
    const beliefMs = this.#deps.cluster.takesDeletes(name.upstream) ? LINK_BELIEF_MS : LINK_TTL_MS;
    this.#links.set(linkKey(name), nowMs + beliefMs);
  }

  #touch(name: BlobName, entry: Entry): void {
    this.#entries.delete(entryKey(name));
    this.#entries.set(entryKey(name), entry);
  }

  #trim(): void {
    this.#bytes = 0;
    for (const entry of this.#entries.values()) this.#bytes += sizeOf(entry);
    for (const [key, entry] of this.#entries) {
      if (this.#bytes <= this.#budgetBytes) return;
      if (entry.poller !== undefined || entry.waiters.size > 0) continue;
      this.#bytes -= sizeOf(entry);
      this.#entries.delete(key);
    }
  }
}

function wishOf(entry: Entry): Wish {
  return { all: entry.wantsAll };
}

function sizeOf(entry: Entry): number {
  return 512 + entry.metainfo.pieceCount * HASH_BYTES;
}

function entryKey({ digest, upstream }: BlobName): string {
  return `${digest}\n${upstream}`;
}
