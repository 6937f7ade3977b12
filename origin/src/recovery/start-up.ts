import { answersOf, askAll } from '@sepia/base/async/ask-many';
import { backoffMs } from '@sepia/base/async/backoff';
import { CodedError, isCoded } from '@sepia/base/errors';
import { logFailure, throwIfBug } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { ORIGIN_SYNC } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import type { Member } from '@sepia/cluster/document';
import { type Membership, spareOf } from '@sepia/cluster/membership';
import { type FirstStartAnswer, firstStartStep } from '@sepia/records/core/first-start';
import { isWitness } from '@sepia/records/core/set-protocol';
import { type AcceptorStore, acceptorStateOf } from '@sepia/records/register/acceptor-store';
import type { Members } from '../cluster/members.ts';
import {
  HANDOVER_MS,
  MAX_OUTSIDE_REST_MS,
  MAX_START_AGAIN_MS,
  MAX_START_REST_MS,
  OUTSIDE_REST_MS,
  START_REST_MS,
} from '../deadlines/members.ts';
import type { OwnStanding } from '../records/own-standing.ts';
import type { HandoverAnswer, StandingAnswer } from './messages.ts';
import type { RecordDigests } from './record-digests.ts';
import type { SyncPull } from './sync-pull.ts';

/** What a start needs of the ring. */
export interface RecoveryRing {
  readonly membership: Membership;
  /** The membership is known, and this origin is not in it. */
  readonly isOutside: boolean;
  /** Records here that other origins own by now; undefined before all were looked through. */
  readonly formerRecords: number | undefined;
  /** Asks the others for their membership and follows the newest. */
  catchUp(): Promise<void>;
  /** Takes the membership of the cluster document as agreed: the first start of a cluster. */
  found(): Promise<void>;
  /** Returns once the membership here is at least of that epoch. @throws `RECORDS_PENDING` */
  reach(epoch: number, from?: string): Promise<void>;
}

interface StartUpDeps {
  readonly members: Members;
  readonly standing: OwnStanding;
  readonly digests: RecordDigests;
  readonly pull: SyncPull;
  readonly ring: () => RecoveryRing;
  /** Promises and accepts about the next membership that others hand over. */
  readonly agreements: Pick<AcceptorStore, 'handOver'>;
  readonly log: Logger;
}

/**
 * Brings an origin from its start to where it counts: the first start of a cluster, the confirmation of a clean stop,
 * or a new generation that the others hand over to. Goes on until it is there.
 */
export class StartUp {
  readonly #deps: StartUpDeps;
  readonly #stopped = new AbortController();
  #running: Promise<void> | undefined;
  #waitsFor: readonly string[] = [];
  /** True once all origins that it waits for were asked and none has handed over. */
  #isStuck = false;
  /** Why it could not go on when it tried last. */
  #failure: string | undefined;
  #rested: AbortController | undefined;
  /** Origins that did not answer the last question. */
  readonly #silent = new Set<string>();

  constructor(deps: StartUpDeps) {
    this.#deps = deps;
  }

  /** Why this origin cannot serve: it waits, and what it keeps together with those that are done is not enough. */
  get pending(): string | undefined {
    // Nobody asks an origin that is not in the ring; it waits to be added.
    if (this.#deps.ring().isOutside) return undefined;
    const { handed } = this.#deps.standing.standing;
    // Three own a record: with two of many others done, some are whole.
    const isPartial = this.#isStuck && handed.length >= 2;
    return isPartial ? undefined : this.waiting;
  }

  /** What it still waits for; undefined once this origin counts for all that it owns. */
  get waiting(): string | undefined {
    const { standing } = this.#deps;
    if (this.#deps.ring().isOutside) return 'not in the ring; add it with "sepia ring add", or stop it';
    if (standing.isSettled) return undefined;
    const whom = this.#waitsFor.length === 0 ? '' : ` from ${this.#waitsFor.join(', ')}`;
    const why = this.#failure === undefined ? '' : ` (tried again after ${this.#failure})`;
    return standing.firstStart === 'member'
      ? `waiting for records${whom}${why}`
      : `waiting for the first start${whom}${why}`;
  }

  /** At the start, and again when this origin counts no more; it changes nothing while one is under way. */
  start(): void {
    const { log } = this.#deps;
    if (this.#running !== undefined || this.#stopped.signal.aborted) return;
    this.#running = this.#run()
      .catch((error: unknown) => {
        if (!this.#stopped.signal.aborted) logFailure(log, error, 'records are not handed over', {}, 'error');
      })
      .finally(() => {
        this.#running = undefined;
      });
  }

  async stop(reason: CodedError): Promise<void> {
    this.#stopped.abort(reason);
    await this.#running;
  }

  get #others(): string[] {
    const { members } = this.#deps;
    return members.ids.filter((id) => id !== members.selfId);
  }

  async #run(): Promise<void> {
    // It may have been taken out, or added again, while it was handed over to.
    do await this.#tryOn();
    while (this.#deps.ring().isOutside || !this.#deps.standing.isSettled);
  }

  /** As after a restart: what failed, such as a disk that took no write, may be over. */
  async #tryOn(): Promise<void> {
    for (let failures = 1; ; failures++) {
      try {
        await this.#untilCounting();
        this.#failure = undefined;
        return;
      } catch (error) {
        this.#stopped.signal.throwIfAborted();
        this.#failure = isCoded(error) ? `${error.code}: ${error.message}` : 'a failure: see the log';
        logFailure(this.#deps.log, error, 'records are not handed over; it is tried again', {}, 'error');
        await this.#rest(backoffMs(failures, START_REST_MS, MAX_START_AGAIN_MS));
      }
    }
  }

  async #untilCounting(): Promise<void> {
    const { standing } = this.#deps;
    await this.#deps.ring().catchUp();
    await this.#untilInside();
    if (standing.isSettled) return;
    if (standing.firstStart !== 'member' && (await this.#firstStart())) return;
    if (!(await this.#isConfirmed())) await standing.beginGeneration();
    await this.#takeOver();
  }

  /** Waits until this origin is in the ring: before that it does nothing. */
  async #untilInside(): Promise<void> {
    const ring = this.#deps.ring();
    for (let asked = 1; ring.isOutside; asked++) {
      await this.#rest(backoffMs(asked, OUTSIDE_REST_MS, MAX_OUTSIDE_REST_MS));
      // Told meanwhile, it need not ask.
      if (ring.isOutside) await ring.catchUp();
    }
  }

  /**
   * True if this origin joins by the change under way, and no old owner ever heard of it: each would have, before what
   * it says counted. Undefined while too few of them answer.
   */
  async #isFresh(): Promise<boolean | undefined> {
    const { members } = this.#deps;
    const { before } = this.#deps.ring().membership;
    if (before === undefined || before.some(({ id }) => id === members.selfId)) return false;
    const call = to(ORIGIN_SYNC.standing);
    const told = await this.#ofOld(
      before,
      async (id, signal) => await members.counted(id, { ...call, signal }),
    );
    return told?.every(({ sender }) => (sender.known[members.selfId] ?? 0) === 0);
  }

  /**
   * Who is new to the ring never promised anything: with its empty folder it counts beside the old owners as soon as so
   * many of them durably know its generation that it cannot come back without its disk and pass for new again.
   */
  async #countAtOnce(): Promise<void> {
    const { standing, members, log } = this.#deps;
    for (let restMs = START_REST_MS; ; restMs = Math.min(MAX_START_REST_MS, restMs * 1.5)) {
      const { before } = this.#deps.ring().membership;
      // The change is over, or another one began: then it is handed over to as everybody is.
      if (before === undefined) return;
      const json = { id: members.selfId, generation: standing.standing.generation };
      const call = { ...to(ORIGIN_SYNC.handover), json, headersTimeoutMs: HANDOVER_MS };
      let isOutdated = false;
      const told = await this.#ofOld(before, async (id, over) => {
        const answer = await members.json<HandoverAnswer>(id, { ...call, signal: over });
        if (answer.type === 'granted') return { id, ...answer };
        isOutdated ||= answer.type === 'outdated';
        throw new CodedError('RECORDS_PENDING', { detail: { origin: id } });
      });
      // One that was silent before did hear of it.
      if (isOutdated) return await standing.join(false);
      if (told !== undefined) {
        const { epoch } = standing.standing;
        for (const { id, generation, known } of told)
          await standing.takeOver({ id, generation, known, epoch }, members.ids);
        await standing.setFirstStart('member');
        log.info({ knownBy: told.map(({ id }) => id) }, 'new to the ring: counts beside the old owners');
        return;
      }
      await this.#rest(restMs);
    }
  }

  /** Asks the old owners; undefined if more of them do not answer than a majority of a key's owners can do without. */
  async #ofOld<T>(
    before: readonly Member[],
    ask: (id: string, signal: AbortSignal) => Promise<T>,
  ): Promise<T[] | undefined> {
    const ids = before.filter(({ state }) => state !== 'draining').map(({ id }) => id);
    const told = answersOf(await askAll(ids, ask, { signal: this.#stopped.signal }));
    return ids.length - told.length > spareOf(before) ? undefined : told;
  }

  /** True if this origin is one of those that begin the cluster; false if others have records. */
  async #firstStart(): Promise<boolean> {
    const { standing, log } = this.#deps;
    for (let restMs = START_REST_MS; ; restMs = Math.min(MAX_START_REST_MS, restMs * 1.5)) {
      const answers = await this.#states();
      this.#waitsFor = this.#others.filter((_, index) => answers[index] === 'silent');
      const own = standing.firstStart;
      if (own === 'member') return true;
      const step = firstStartStep(own, answers);
      if (step === 'note') {
        await standing.setFirstStart('noted');
        restMs = START_REST_MS;
        continue;
      }
      if (step === 'open') {
        await standing.setFirstStart('member');
        await this.#deps.ring().found();
        log.info('first start: all origins are new');
        return true;
      }
      if (step === 'handover') {
        await this.#deps.ring().catchUp();
        await this.#untilInside();
        const isFresh = await this.#isFresh();
        if (isFresh !== undefined) {
          await standing.join(isFresh);
          if (isFresh) await this.#countAtOnce();
          return standing.isSettled;
        }
      }
      await this.#rest(restMs);
    }
  }

  /** What each of the others says of its first start. */
  async #states(): Promise<FirstStartAnswer[]> {
    const call = to(ORIGIN_SYNC.standing);
    const said = await askAll(
      this.#others,
      async (id, signal) => await this.#deps.members.json<StandingAnswer>(id, { ...call, signal }),
      { signal: this.#stopped.signal },
    );
    return said.map((one) => {
      if (one.type === 'answer') return one.answer.firstStart;
      // A member of the version before is one that has records.
      return isCoded(one.error, 'ROUTE_UNKNOWN') ? 'member' : 'silent';
    });
  }

  /** True if all others hold what this origin noted when it stopped cleanly. */
  async #isConfirmed(): Promise<boolean> {
    const { standing, digests, members, log } = this.#deps;
    const digest = digests.whole;
    const closing = standing.closing(digest);
    if (closing === undefined) return false;
    const json = { id: members.selfId, generation: closing.generation, token: closing.token };
    const call = { ...to(ORIGIN_SYNC.closingConfirm), json };
    const said = await askAll(
      this.#others,
      async (id, signal) => await members.json<{ same: boolean }>(id, { ...call, signal }),
      { signal: this.#stopped.signal },
    );
    if (!said.every((one) => one.type === 'answer' && one.answer.same)) return false;
    // It may have been taken out or added again meanwhile: then the note is gone.
    if (standing.closing(digest) === undefined) return false;
    for (const id of this.#others)
      await standing.takeOver({ id, generation: 0, known: {}, epoch: standing.standing.epoch }, members.ids);
    if (standing.closing(digest) === undefined) return false;
    log.info('clean stop confirmed by all origins');
    return true;
  }

  async #takeOver(): Promise<void> {
    const { standing, pull, log } = this.#deps;
    await pull.forgetAlone();
    for (
      let restMs = START_REST_MS;
      !standing.isSettled;
      restMs = Math.min(MAX_START_REST_MS, restMs * 1.5)
    ) {
      await this.#untilInside();
      const open = this.#others.filter((id) => !standing.standing.handed.includes(id));
      this.#waitsFor = open;
      let isAny = false;
      for (const id of open) {
        try {
          this.#silent.delete(id);
          isAny = (await this.#from(id)) || isAny;
          this.#waitsFor = open.filter((one) => !standing.standing.handed.includes(one));
        } catch (error) {
          this.#silent.add(id);
          throwIfBug(error);
          this.#stopped.signal.throwIfAborted();
          log.debug({ id, reason: String(error) }, 'no handover yet');
        }
      }
      this.#isStuck = !isAny;
      if (isAny) restMs = START_REST_MS;
      else await this.#rest(restMs);
    }
    await pull.forgetAlone();
    log.info({ generation: standing.standing.generation }, 'all origins handed their records over');
  }

  /** True if `id` handed everything over. */
  async #from(id: string): Promise<boolean> {
    const { standing, pull, members, log } = this.#deps;
    const { signal } = this.#stopped;
    const { generation, kept } = standing.standing;
    const json = { id: members.selfId, generation };
    const ask = async (): Promise<HandoverAnswer> =>
      await members.json<HandoverAnswer>(id, {
        ...to(ORIGIN_SYNC.handover),
        json,
        headersTimeoutMs: HANDOVER_MS,
        signal,
      });
    let answer: HandoverAnswer;
    try {
      answer = await ask();
    } catch (error) {
      throwIfBug(error);
      // The version before counts whoever has its folder; it cannot hand over.
      if (!isCoded(error, 'ROUTE_UNKNOWN') || !kept) throw error;
      answer = { type: 'granted', generation: 0, known: {}, epoch: 0 };
      await standing.takeOver({ id, ...answer }, members.ids);
      return true;
    }
    if (answer.type === 'outdated') {
      await standing.beginGeneration(answer.known);
      return true;
    }
    if (answer.type === 'not-yet') return false;
    await this.#deps.ring().reach(answer.epoch, id);
    const how = isWitness({ settled: answer.settled ?? true }) ? 'witness' : 'handover';
    const { records, blobs } = await pull.pull(id, how, await pull.differing(id, signal), signal);
    // Asked again: it still is who handed over, and what it knows of others is as new as its last page.
    const last = await ask();
    if (last.type !== 'granted' || last.generation !== answer.generation) return false;
    // Taken out of the ring meanwhile, it may not know what was deleted.
    if (answer.settled === true && last.settled === false) return false;
    await this.#deps.ring().reach(last.epoch, id);
    if (last.agreement !== undefined) {
      const { key, state } = last.agreement;
      await this.#deps.agreements.handOver(key, acceptorStateOf(key, state));
    }
    const { epoch, handed } = standing.standing;
    // Those of whom it is sure that they were one generation all the while.
    await pull.dropAlone([...handed, id]);
    await standing.takeOver({ id, generation: last.generation, known: last.known, epoch }, members.ids);
    log.info({ id, records, blobs }, 'records handed over');
    return true;
  }

  /** The membership is another one: who counts no more begins, and who waits to be added looks at once. */
  followed(): void {
    const { standing, ring } = this.#deps;
    if (ring().isOutside || (standing.firstStart === 'member' && !standing.isSettled)) this.start();
    this.#rested?.abort();
  }

  /** Another origin is there that did not answer before: what waits for it is tried at once. */
  soon(id: string): void {
    if (this.#silent.delete(id)) this.#rested?.abort();
  }

  async #rest(ms: number): Promise<void> {
    this.#rested = new AbortController();
    await pause(ms, AbortSignal.any([this.#stopped.signal, this.#rested.signal]));
    this.#stopped.signal.throwIfAborted();
  }
}
