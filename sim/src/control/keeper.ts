import type { BlobName } from '@sepia/base/names/blob-name';
import { LINK_BELIEF_MS } from '@sepia/cluster/core/link-ledger';
import { locate, silent, toldBy, type Whereabouts } from '@sepia/cluster/core/where';
import { AnswerPace } from '@sepia/http/answer-pace';
import { Metainfo } from '@sepia/metainfo/metainfo';
import type { KnownPeer } from '@sepia/swarm/core/events';
import { ASK_AGAIN_MS, LEAST_SILENCE_MS, MOST_SILENCE_MS, POLL_MS } from '@sepia/tracker/deadlines';
import { type Entry, Followed, type Located } from '@sepia/tracker/metainfo/core/followed';
import { graceMs, LeaderWait } from '@sepia/tracker/metainfo/core/leader-wait';
import { call, type Life } from '../wire/call.ts';
import type { VirtualClock } from '../wire/clock.ts';
import type { Network, Port } from '../wire/network.ts';
import type { OriginFetch } from './origin-fetch.ts';

/** How long an origin may take for metainfo in a run, ms. */
const METAINFO_MS = 4_000;
const BUDGET_BYTES = 64 * 2 ** 20;

/** The origins of one blob, as a tracker calls them. */
export interface BlobOrigins {
  readonly name: BlobName;
  /** In the order of the ring. */
  readonly ids: readonly string[];
  readonly life: (id: string) => Life;
  readonly port: (id: string) => Port;
  /** How members know it. */
  readonly peer: (id: string) => KnownPeer;
  /** What one fetches of it, or has. */
  readonly fetchOf: (id: string) => OriginFetch | undefined;
  /** Runs there: it fetches from now on, with what a leader before it made known; none, where there is nothing to fetch from. */
  readonly lead: (
    id: string,
    adopt: Metainfo | undefined,
    holders: readonly KnownPeer[],
  ) => OriginFetch | undefined;
}

interface KeeperDeps {
  readonly clock: VirtualClock;
  readonly network: Network;
  readonly isUp: () => boolean;
  /** Members with pieces of it. */
  readonly holders: (name: BlobName) => readonly KnownPeer[];
}

type Told = (entry: Entry | undefined) => void;

/** A tracker's metainfo: what ships decides ({@link Followed}, {@link locate}), this asks the origins and wakes who waits. */
export class SimKeeper {
  readonly #deps: KeeperDeps;
  readonly #followed = new Followed({ budgetBytes: BUDGET_BYTES, beliefMs: () => LINK_BELIEF_MS.lasting });
  readonly #pace = new AnswerPace();
  readonly #wait = new LeaderWait(this.#pace);
  readonly #locating = new Map<string, Told[]>();
  readonly #waiters = new Map<Entry, Set<() => void>>();

  constructor(deps: KeeperDeps) {
    this.#deps = deps;
  }

  /** `told` nothing: no origin answers, and nothing is known. */
  get(blob: BlobOrigins, told: Told): void {
    const { name } = blob;
    const known = this.#followed.believed(name, this.#nowMs);
    if (known !== undefined) {
      told(known);
      return;
    }
    const waiting = this.#locating.get(name.digest);
    if (waiting !== undefined) {
      waiting.push(told);
      return;
    }
    this.#locating.set(name.digest, [told]);
    const lookUp = this.#followed.lookUp(this.#nowMs);
    this.#locate(blob, this.#followed.known(name)?.metainfo, false, (located) => {
      const entry =
        located === undefined ? this.#followed.withoutOrigins(name) : this.#found(blob, located, lookUp);
      const all = this.#locating.get(name.digest) ?? [];
      this.#locating.delete(name.digest);
      for (const one of all) one(entry);
    });
  }

  /** `told` once more is known than `etag` says, or after `waitMs`; nothing where nobody goes on with it. */
  wait(
    blob: BlobOrigins,
    etag: string | undefined,
    waitMs: number,
    told: (metainfo: Metainfo | undefined) => void,
  ): void {
    this.get(blob, (entry) => {
      if (entry === undefined) {
        told(undefined);
        return;
      }
      this.#followed.asked(entry, true, this.#nowMs);
      if (entry.metainfo.etag !== etag) {
        told(entry.metainfo);
        return;
      }
      const done = this.#followed.wait(entry);
      let isWaiting = true;
      const wake = (): void => {
        if (!isWaiting) return;
        isWaiting = false;
        done();
        told(entry.failed === undefined ? entry.metainfo : undefined);
      };
      const waiters = this.#waiters.get(entry) ?? new Set();
      this.#waiters.set(entry, waiters.add(wake));
      this.#deps.clock.at(this.#nowMs + waitMs, wake);
    });
  }

  get #nowMs(): number {
    return this.#deps.clock.nowMs;
  }

  #found(blob: BlobOrigins, located: Located, lookUp: ReturnType<Followed['lookUp']>): Entry {
    const options = { wantsAll: true, nowMs: this.#nowMs };
    const { entry, mustFollow, isContested } = this.#followed.found(blob.name, located, lookUp, options);
    this.#changed(entry, isContested);
    if (mustFollow) this.#follow(blob, entry);
    return entry;
  }

  #changed(entry: Entry, isContested: boolean): void {
    if (isContested) throw new Error('origins vouch for different bytes of one blob');
    const waiters = this.#waiters.get(entry);
    this.#waiters.delete(entry);
    for (const wake of waiters ?? []) wake();
  }

  /** All are asked what they have, then those chosen in turn. */
  #locate(
    blob: BlobOrigins,
    known: Metainfo | undefined,
    isOrphan: boolean,
    done: (located: Located | undefined) => void,
  ): void {
    this.#where(blob, undefined, (answers) => this.#choose(blob, known, isOrphan, answers, done));
  }

  /** All are asked what they have. `doubted`: one that may hang; the others decide how long it is waited for. */
  #where(
    blob: BlobOrigins,
    doubted: string | undefined,
    done: (answers: readonly Whereabouts[]) => void,
  ): void {
    const said = new Map<string, Whereabouts>();
    const askedMs = this.#nowMs;
    let isOver = false;
    const end = (): void => {
      if (isOver || !this.#deps.isUp()) return;
      isOver = true;
      done(blob.ids.map((id) => said.get(id) ?? silent(id)));
    };
    for (const originId of blob.ids) {
      const timeoutMs = originId === doubted ? MOST_SILENCE_MS : LEAST_SILENCE_MS;
      const line = { to: blob.port(originId), life: () => blob.life(originId), timeoutMs };
      call<Whereabouts>(
        this.#deps,
        line,
        (reply) => reply(toldBy(originId, { state: blob.fetchOf(originId)?.state ?? 'none', linked: true })),
        (outcome) => {
          said.set(originId, outcome.type === 'answer' ? outcome.answer : silent(originId));
          if (outcome.type === 'answer') this.#pace.note(this.#nowMs - askedMs);
          if (said.size === blob.ids.length) end();
          else if (said.size === blob.ids.length - 1 && doubted !== undefined && !said.has(doubted))
            this.#deps.clock.at(this.#nowMs + graceMs(this.#nowMs - askedMs), end);
        },
      );
    }
  }

  #choose(
    blob: BlobOrigins,
    known: Metainfo | undefined,
    isOrphan: boolean,
    answers: readonly Whereabouts[],
    done: (located: Located | undefined) => void,
  ): void {
    const found = locate(answers, blob.ids);
    const isHeld = found.type === 'at';
    const isWhole = isHeld && found.state === 'final';
    const originIds = isHeld ? found.originIds : found.fetchIds;
    const isAnew = !isHeld || (isOrphan && !isWhole);
    const adopt = isAnew && known?.state === 'open' && known.knownCount > 0 ? known : undefined;
    this.#ask(blob, originIds, { adopt, mayFetch: !isHeld }, (located) =>
      done(located && isWhole ? { ...located, originIds } : located),
    );
  }

  #ask(
    blob: BlobOrigins,
    [originId, ...others]: readonly string[],
    how: { readonly adopt: Metainfo | undefined; readonly mayFetch: boolean },
    done: (located: Located | undefined) => void,
  ): void {
    if (originId === undefined) {
      done(undefined);
      return;
    }
    const line = { to: blob.port(originId), life: () => blob.life(originId), timeoutMs: METAINFO_MS };
    call<Metainfo | undefined>(
      this.#deps,
      line,
      (reply) => {
        const running = blob.fetchOf(originId);
        const isRunning = running !== undefined && running.state !== 'none';
        if (!isRunning && !how.mayFetch) {
          reply(undefined);
          return;
        }
        if (isRunning && how.adopt !== undefined) running.learn(how.adopt);
        const fetch = isRunning ? running : blob.lead(originId, how.adopt, this.#deps.holders(blob.name));
        if (fetch === undefined) {
          reply(undefined);
          return;
        }
        fetch.poll(undefined, METAINFO_MS, () => reply(copyOf(fetch.metainfo)));
      },
      (outcome) => {
        if (outcome.type === 'answer' && outcome.answer !== undefined)
          done({ metainfo: outcome.answer, originIds: [originId] });
        else this.#ask(blob, others, how, done);
      },
    );
  }

  #follow(blob: BlobOrigins, entry: Entry): void {
    const { clock, isUp } = this.#deps;
    if (!isUp() || this.#followed.next(blob.name, entry, clock.nowMs) !== 'poll') return;
    const leader = entry.originIds[0]!;
    const { lateMs, goneMs } = this.#wait.next();
    const line = { to: blob.port(leader), life: () => blob.life(leader), timeoutMs: goneMs };
    const { etag } = entry.metainfo;
    const askedMs = clock.nowMs;
    let isOpen = true;
    if (lateMs !== undefined)
      clock.at(askedMs + POLL_MS + lateMs, () => {
        if (!isOpen || !isUp()) return;
        this.#wait.looked();
        this.#where(blob, leader, (answers) => {
          const others = answers.filter(({ originId }) => originId !== leader);
          const isSilent = answers.every((one) => one.originId !== leader || one.state === 'silent');
          if (!isOpen || !isSilent || others.every(({ state }) => state === 'silent')) return;
          isOpen = false;
          this.#wait.found();
          this.#orphan(blob, entry, answers);
        });
      });
    call<Metainfo | undefined>(
      this.#deps,
      line,
      (reply) => {
        const fetch = blob.fetchOf(leader);
        if (fetch === undefined || fetch.state === 'none') {
          reply(undefined);
          return;
        }
        fetch.poll(etag, POLL_MS, () =>
          reply(fetch.metainfo.etag === etag ? entry.metainfo : copyOf(fetch.metainfo)),
        );
      },
      (outcome) => {
        if (!isUp() || !isOpen) return;
        isOpen = false;
        if (outcome.type !== 'answer' || outcome.answer === undefined) {
          this.#orphan(blob, entry);
          return;
        }
        const isNews = outcome.answer !== entry.metainfo;
        this.#wait.answered(clock.nowMs - askedMs, isNews);
        this.#followed.answered(entry);
        if (isNews) this.#learn(entry, { metainfo: outcome.answer, originIds: entry.originIds });
        this.#follow(blob, entry);
      },
    );
  }

  /** `answers`: what origins said they have, where they were asked just now. */
  #orphan(blob: BlobOrigins, entry: Entry, answers?: readonly Whereabouts[]): void {
    const { clock } = this.#deps;
    if (this.#followed.unanswered(entry, false, clock.nowMs) === 'give-up') {
      this.#followed.giveUp(entry, 'no origin');
      this.#changed(entry, false);
      return;
    }
    const goOn = (located: Located | undefined): void => {
      if (located !== undefined) this.#learn(entry, located);
      const waitMs = located === undefined ? ASK_AGAIN_MS : 0;
      clock.at(clock.nowMs + waitMs, () => this.#follow(blob, entry));
    };
    if (answers === undefined) this.#locate(blob, entry.metainfo, true, goOn);
    else this.#choose(blob, entry.metainfo, true, answers, goOn);
  }

  #learn(entry: Entry, located: Located): void {
    this.#changed(entry, this.#followed.learned(entry, located) === 'contested');
  }
}

/** As it goes over the network. */
export function copyOf(metainfo: Metainfo): Metainfo {
  return Metainfo.decode(metainfo.encode());
}
