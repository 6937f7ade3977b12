import { askInTurn } from '@sepia/base/async/ask-many';
import { SingleFlight } from '@sepia/base/async/single-flight';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded, isUpstreamFailure } from '@sepia/base/errors';
import { logFailure, throwIfBug } from '@sepia/base/failure';
import { delay, pause } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { type BlobName, linkKey } from '@sepia/base/names/blob-name';
import type { PeerEntry } from '@sepia/cluster/api/join';
import type { Revocation } from '@sepia/cluster/api/revocation';
import type { Cluster } from '@sepia/cluster/cluster';
import { isDefinite } from '@sepia/cluster/core/answers';
import { LINK_BELIEF_MS } from '@sepia/cluster/core/link-ledger';
import { locate, type Whereabouts } from '@sepia/cluster/core/where';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import { ASK_AGAIN_MS, METAINFO_MS } from '../deadlines.ts';
import { type Entry, Followed, type Located } from './core/followed.ts';
import { LeaderWait } from './core/leader-wait.ts';
import { askEarly, type EarlyMetainfo } from './early.ts';
import { askHolder } from './holder-word.ts';
import { pollLeader } from './leader-poll.ts';
import type { Origins, Wish } from './origins.ts';
import { Rounds } from './rounds.ts';

/** How often holders that failed are looked for again. */
const HOLDER_TRIES = 8;

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

/** What wakes those that wait for a blob. */
interface Waiting {
  readonly forNews: Set<() => void>;
  /** They know that there is news, and are told later: to wake them for each piece would cost more than to tell them. */
  readonly held: Set<() => void>;
}

interface Search {
  /** The leader of what is known is gone; whoever fetches the blob now is told of it. */
  readonly isOrphan: boolean;
  /** What origins said they have, where they were asked just now. */
  readonly answers?: readonly Whereabouts[] | undefined;
  readonly tries?: number;
}

/**
 * Metainfo of blobs for all that join: located once, followed while open (also to a new leader when the old one dies or
 * hangs). What is known, believed and let go of is decided by {@link Followed}; this asks origins and wakes who waits.
 */
export class MetainfoKeeper {
  readonly #deps: KeeperDeps;
  readonly #followed: Followed;
  readonly #waiting = new WeakMap<Entry, Waiting>();
  readonly #locating = new SingleFlight<string, Entry>();
  readonly #rounds = new Rounds();
  readonly #wait: LeaderWait;
  readonly #stopped = new AbortController();

  constructor(deps: KeeperDeps, options: { readonly budgetBytes: number }) {
    this.#deps = deps;
    this.#wait = new LeaderWait(deps.origins.pace);
    this.#followed = new Followed({
      ...options,
      beliefMs: (upstream) =>
        deps.cluster.takesDeletes(upstream) ? LINK_BELIEF_MS.member : LINK_BELIEF_MS.lasting,
    });
  }

  /** Metainfo and holders of a blob; asks the origins when it is not known here or its link is not proven. */
  async get(name: BlobName, wish: Wish = WATCHING): Promise<Located> {
    const entry = await this.#get(name, wish);
    const leader = this.#followed.asked(entry, wish.all, this.#deps.nowMs());
    if (leader !== undefined) this.#raise(name, leader);
    return entry;
  }

  async #get(name: BlobName, wish: Wish): Promise<Entry> {
    const nowMs = this.#deps.nowMs();
    const known = this.#followed.believed(name, nowMs);
    if (known === undefined) return await this.#lookUp(name, wish, true);
    if (this.#followed.isDue(name, nowMs))
      this.#lookUp(name, wish, false).catch((error: unknown) =>
        // Whoever asks once it is believed no more asks again, and is told.
        logFailure(this.#deps.log, error, 'a link was not looked up again', { digest: name.digest }, 'debug'),
      );
    return known;
  }

  async #lookUp(name: BlobName, wish: Wish, isAwaited: boolean): Promise<Entry> {
    const key = linkKey(name);
    if (isAwaited) this.#rounds.awaited(key);
    return await this.#locating.share(key, async () => {
      const { ids } = this.#deps.origins.candidates(name.digest);
      // What was never proven is asked of each origin alone: all of them are heard first.
      if (this.#followed.voucher(name, ids) === undefined) return await this.#locate(name, wish, isAwaited);
      return await this.#rounds.run(
        key,
        isAwaited,
        async (isWaitedFor) => await this.#locate(name, wish, isWaitedFor),
      );
    });
  }

  /**
   * Waits until there is more than `etag` says, at most `waitMs`; where many wait, also until news may be told again. Undefined when
   * there was nothing new.
   */
  async wait(
    name: BlobName,
    etag: string,
    waitMs: number,
    signal: AbortSignal,
  ): Promise<Metainfo | undefined> {
    const entry = await this.#get(name, WATCHING);
    this.#followed.asked(entry, false, this.#deps.nowMs());
    const askedMs = performance.now();
    const gapMs = this.#followed.newsGapMs(entry);
    const done = this.#followed.wait(entry);
    try {
      for (
        let leftMs = waitMs;
        leftMs > 0 && !signal.aborted;
        leftMs = waitMs - (performance.now() - askedMs)
      ) {
        const isNew = entry.metainfo.etag !== etag;
        const heldMs =
          isNew && this.#followed.newsGapMs(entry) > 0 ? gapMs - (performance.now() - askedMs) : 0;
        if (entry.failed !== undefined || (isNew && heldMs <= 0)) break;
        if (isNew) await this.#woken(this.#waitingOf(entry).held, Math.min(heldMs, leftMs), signal);
        else await this.#woken(this.#waitingOf(entry).forNews, leftMs, signal);
      }
    } finally {
      done();
    }
    if (entry.failed !== undefined) throw entry.failed;
    return entry.metainfo.etag === etag ? undefined : entry.metainfo;
  }

  /** Resolves when they are woken, or `waitMs` later. */
  async #woken(waiters: Set<() => void>, waitMs: number, signal: AbortSignal): Promise<void> {
    const late = new AbortController();
    let wake = (): void => undefined;
    const news = new Promise<void>((resolve) => {
      wake = resolve;
      waiters.add(resolve);
    });
    try {
      await Promise.race([news, pause(waitMs, AbortSignal.any([signal, late.signal]))]);
    } finally {
      late.abort();
      waiters.delete(wake);
    }
  }

  /** All blobs followed now, for people who look. */
  *running(): Generator<[Digest, Located]> {
    for (const entry of this.#followed.values()) yield [entry.metainfo.digest, entry];
  }

  /** Links that are no more: the next that asks by one of them is answered by the origins. */
  revoke(revoked: readonly Revocation[]): void {
    this.#followed.revoke(revoked);
    for (const name of revoked) this.#locating.forget(linkKey(name));
  }

  stop(): void {
    this.#stopped.abort(new CodedError('DRAINING'));
    for (const entry of this.#followed.values()) this.#wake(entry);
  }

  /** A leader that fetches ranges alone is told that all is wanted; each poll says it again. */
  #raise(name: BlobName, leader: string): void {
    this.#deps.origins
      .metainfo(leader, name, true, { all: true }, this.#stopped.signal)
      .catch((error: unknown) =>
        logFailure(this.#deps.log, error, 'leader does not hear', { digest: name.digest, leader }, 'debug'),
      );
  }

  async #locate(name: BlobName, wish: Wish, isAwaited: boolean): Promise<Entry> {
    const { nowMs } = this.#deps;
    const lookUp = this.#followed.lookUp(nowMs());
    const known = this.#followed.known(name);
    const wantsAll = wish.all || known?.wantsAll === true;
    try {
      const located = await this.#find(name, known?.metainfo, { ...wish, all: wantsAll }, isAwaited);
      const options = { wantsAll, nowMs: nowMs() };
      const { entry, mustFollow, isContested } = this.#followed.found(name, located, lookUp, options);
      if (mustFollow) this.#follow(name, entry);
      this.#changed(entry, isContested);
      return entry;
    } catch (error) {
      throwIfBug(error);
      if (isCoded(error, 'BLOB_UNKNOWN')) this.#followed.denied(name);
      const kept = isDefinite(error) ? undefined : this.#followed.withoutOrigins(name);
      if (kept === undefined) throw error;
      return kept;
    }
  }

  /** Asks one that is known to hold the blob for its word; all where there is none, or it does not say yes. */
  async #find(name: BlobName, known: Metainfo | undefined, wish: Wish, isAwaited: boolean): Promise<Located> {
    const { origins } = this.#deps;
    const { ids, ownerIds } = origins.candidates(name.digest);
    const holderId = this.#followed.voucher(name, ids);
    if (known === undefined || holderId === undefined)
      return await this.#ask(name, known, wish, { isOrphan: false });
    const word = await askHolder(origins, { name, known, holderId, isAwaited }, this.#stopped.signal);
    const answers = word.type === 'no' ? undefined : word.answers;
    if (word.type !== 'yes') return await this.#ask(name, known, wish, { isOrphan: false, answers });
    const found = locate(word.answers, ownerIds);
    return { metainfo: word.metainfo, originIds: found.type === 'at' ? found.originIds : [holderId] };
  }

  async #ask(name: BlobName, known: Metainfo | undefined, wish: Wish, search: Search): Promise<Located> {
    const isNew = known === undefined && search.answers === undefined && search.tries === undefined;
    const early = isNew ? askEarly(this.#deps.origins, name, wish, this.#stopped.signal) : undefined;
    try {
      return await this.#askAll(name, known, wish, { ...search, early });
    } finally {
      early?.drop();
    }
  }

  async #askAll(
    name: BlobName,
    known: Metainfo | undefined,
    wish: Wish,
    {
      isOrphan,
      answers,
      tries = HOLDER_TRIES,
      early,
    }: Search & { readonly early?: EarlyMetainfo | undefined },
  ): Promise<Located> {
    const { origins, holders } = this.#deps;
    const signal = this.#stopped.signal;
    const found = locate(
      answers ?? (await origins.where(name, signal)),
      origins.candidates(name.digest).ownerIds,
    );
    const isHeld = found.type === 'at';
    const isWhole = isHeld && found.state === 'final';
    const originIds = isHeld ? found.originIds : found.fetchIds;
    if (originIds.length === 0)
      throw new CodedError('NO_PEERS', { message: 'no origin answers', detail: { digest: name.digest } });
    const isRefused = (error: unknown): boolean => isDefinite(error) || isUpstreamFailure(error);
    const adoptable =
      (!isHeld || (isOrphan && !isWhole)) && known?.state === 'open' && known.knownCount > 0
        ? known
        : undefined;
    // Where it comes later in turn it is asked anew.
    const taken = early?.originId === originIds[0] ? early : undefined;
    if (taken === undefined) early?.drop();
    const ask = async (originId: string): Promise<Located> => {
      const metainfo =
        adoptable !== undefined
          ? await origins.adopt(originId, name, adoptable, holders(name.digest), wish, signal)
          : await (taken?.originId === originId
              ? taken.told(isHeld ? METAINFO_MS : undefined)
              : origins.metainfo(originId, name, !isHeld, wish, signal));
      return { metainfo, originIds: isWhole ? originIds : [originId] };
    };
    try {
      const isFinal = (error: unknown): boolean => !isHeld && isRefused(error);
      return await askInTurn(originIds, ask, { isFinal });
    } catch (error) {
      throwIfBug(error);
      // A moment later those that had it are silent, and others are asked.
      if (!isHeld || tries <= 1 || isRefused(error)) throw error;
      await delay(ASK_AGAIN_MS, signal);
      return await this.#ask(name, known, wish, { isOrphan, tries: tries - 1 });
    }
  }

  #learn(entry: Entry, located: Located): void {
    this.#changed(entry, this.#followed.learned(entry, located) === 'contested');
  }

  #changed(entry: Entry, isContested: boolean): void {
    if (isContested)
      this.#deps.log.error(
        { digest: entry.metainfo.digest },
        'origins vouch for different bytes of one blob: one has a false sidecar',
      );
    this.#wake(entry);
  }

  /** Follows an open blob at its leader; when that one fails, finds the next. */
  #follow(name: BlobName, entry: Entry): void {
    const { signal } = this.#stopped;
    this.#followLoop(name, entry, signal).catch((error: unknown) => {
      if (signal.aborted) return;
      logFailure(this.#deps.log, error, 'an open blob was given up', { digest: name.digest });
      this.#followed.giveUp(entry, error);
      this.#wake(entry);
    });
  }

  async #followLoop(name: BlobName, entry: Entry, signal: AbortSignal): Promise<void> {
    const { origins, nowMs, log } = this.#deps;
    while (this.#followed.next(name, entry, nowMs()) === 'poll') {
      const leader = entry.originIds[0];
      let answers: readonly Whereabouts[] | undefined;
      try {
        if (leader === undefined) throw new CodedError('NO_PEERS');
        const poll = { name, leader, known: entry.metainfo, wish: wishOf(entry) };
        const polled = await pollLeader({ origins, wait: this.#wait }, poll, signal);
        if (polled.type === 'silent') {
          ({ answers } = polled);
          throw new CodedError('PEER_HTTP', { message: `${leader} is silent` });
        }
        this.#followed.answered(entry);
        const { news } = polled;
        if (news !== undefined) this.#learn(entry, { metainfo: news, originIds: entry.originIds });
      } catch (error) {
        throwIfBug(error);
        signal.throwIfAborted();
        if (this.#followed.unanswered(entry, isDefinite(error), nowMs()) === 'give-up') throw error;
        log.info({ digest: name.digest, leader, err: error }, 'leader is gone; looking for the next');
        await this.#nextLeader(name, entry, answers, signal);
      }
    }
  }

  /** `answers`: what origins said they have, where they were asked just now. */
  async #nextLeader(
    name: BlobName,
    entry: Entry,
    answers: readonly Whereabouts[] | undefined,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      this.#learn(entry, await this.#ask(name, entry.metainfo, wishOf(entry), { isOrphan: true, answers }));
    } catch (error) {
      throwIfBug(error);
      if (isDefinite(error)) throw error;
      await delay(ASK_AGAIN_MS, signal);
    }
  }

  #waitingOf(entry: Entry): Waiting {
    let waiting = this.#waiting.get(entry);
    if (waiting === undefined) {
      waiting = { forNews: new Set(), held: new Set() };
      this.#waiting.set(entry, waiting);
    }
    return waiting;
  }

  #wake(entry: Entry): void {
    const { forNews, held } = this.#waitingOf(entry);
    const woken = [...forNews, ...(this.#followed.newsGapMs(entry) > 0 ? [] : held)];
    for (const wake of woken) wake();
  }
}

function wishOf(entry: Entry): Wish {
  return { all: entry.wantsAll };
}
