import { createHash, randomBytes } from 'node:crypto';
import { CodedError, isCoded } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { notePass } from '@sepia/base/metrics';
import type { Registers } from '@sepia/records/jobs/job-queue';
import { EVENT_LOOK_MS, EVENT_RENEW_MS } from '../deadlines.ts';
import {
  addEvent,
  finish,
  hasDue,
  type Lane,
  type LaneEvent,
  putBack,
  renew,
  takeDue,
} from './core/event-lane.ts';

/** Registers that events are spread over. */
const LANES = 8;
/** Events worked on at once by one proxy. */
const PARALLEL = 4;

interface EventQueueDeps<T> {
  readonly records: Registers;
  readonly memberId: string;
  readonly log: Logger;
  readonly dateMs: () => number;
  /** Carries an event out; what it throws puts the event back. `tries`: how often it failed before. */
  readonly work: (
    payload: T,
    event: { readonly key: string; readonly tries: number },
    signal: AbortSignal,
  ) => Promise<void>;
  /** Whose an event is: nobody takes all places, nor the time of the proxies. */
  readonly ownerOf: (payload: T) => string;
}

/**
 * Events on record at the origins, so that what was answered with 2xx is carried out although the proxy dies: each
 * at least once, a repeated delivery not again, in no order.
 */
export class EventQueue<T> {
  readonly #deps: EventQueueDeps<T>;
  readonly #lookEveryMs: number;
  readonly #holder: string;
  readonly #stopped = new AbortController();
  readonly #running = new Set<Promise<void>>();
  /** A lane could not be read in the look under way. */
  #isBlind = false;
  /** Events that this proxy carried out. */
  #ended = 0;
  #loop: Promise<void> | undefined;

  constructor(deps: EventQueueDeps<T>, options: { readonly lookEveryMs?: number } = {}) {
    this.#deps = deps;
    this.#lookEveryMs = options.lookEveryMs ?? EVENT_LOOK_MS;
    this.#holder = `${deps.memberId}.${randomBytes(8).toString('hex')}`;
  }

  start(): void {
    this.#loop = this.#look();
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new CodedError('DRAINING'));
    await this.#loop;
    await Promise.allSettled(this.#running);
  }

  /**
   * Resolves when all events are on a quorum, with one write for each lane that they fall into; known ones are not
   * taken again. @throws `OVERLOADED`, `QUORUM_LOST`
   */
  async accept(events: readonly { readonly name: string; readonly payload: T }[]): Promise<void> {
    if (this.#stopped.signal.aborted) throw new CodedError('DRAINING');
    const byLane = new Map<string, { readonly key: string; readonly payload: T }[]>();
    for (const { name, payload } of events) {
      const key = createHash('sha256').update(name).digest('hex').slice(0, 32);
      const register = laneKey(key);
      byLane.set(register, [...(byLane.get(register) ?? []), { key, payload }]);
    }
    await Promise.all([...byLane].map(async ([register, list]) => await this.#acceptInLane(register, list)));
  }

  async #acceptInLane(
    register: string,
    events: readonly { readonly key: string; readonly payload: T }[],
  ): Promise<void> {
    const { records, dateMs, ownerOf } = this.#deps;
    let added: typeof events = [];
    await records.change<Lane<T>>(register, (lane) => {
      let next = lane;
      added = events.filter((event) => {
        const found = addEvent(next, event, this.#holder, dateMs(), ownerOf);
        next = found.lane;
        return found.isNew;
      });
      return next;
    });
    for (const { key, payload } of added) this.#begin({ key, tries: 0 }, payload);
  }

  async #look(): Promise<void> {
    const { signal } = this.#stopped;
    while (await pause(this.#lookEveryMs, signal)) {
      const beganMs = performance.now();
      this.#isBlind = false;
      for (let isMoving = true; isMoving; ) {
        const before = this.#ended;
        let isMore = false;
        for (let lane = 0; lane < LANES; lane++) isMore = (await this.#lookAt(lane)) || isMore;
        // What fails waits for its own time; while events end well there is no reason to wait.
        isMoving = isMore && this.#ended > before;
      }
      notePass('events', { isFailed: this.#isBlind, tookMs: performance.now() - beganMs });
    }
  }

  /** Takes what is due in a lane, as much as there is room for; waits until there is some. True if more may be due. */
  async #lookAt(lane: number): Promise<boolean> {
    const { signal } = this.#stopped;
    const { records, dateMs, log, ownerOf } = this.#deps;
    while (this.#running.size >= PARALLEL) await Promise.race(this.#running);
    if (signal.aborted) return false;
    const register = `events\0${lane}`;
    const room = PARALLEL - this.#running.size;
    let taken: LaneEvent<T>[] = [];
    try {
      if (!hasDue(await records.read<Lane<T>>(register), dateMs())) return false;
      await records.change<Lane<T>>(register, (current) => {
        const found = takeDue(current, this.#holder, dateMs(), room, ownerOf);
        taken = found.taken;
        return found.lane;
      });
    } catch (error) {
      this.#isBlind = true;
      if (!signal.aborted) logFailure(log, error, 'events that wait were not looked for', { lane });
      return false;
    }
    for (const { payload, ...event } of taken) this.#begin(event, payload);
    return taken.length === room;
  }

  #begin(event: Pick<LaneEvent<T>, 'key' | 'tries'>, payload: T): void {
    const run = this.#run(event, payload)
      .catch((error: unknown) =>
        logFailure(this.#deps.log, error, 'event not ended; it is done again', { event: event.key }),
      )
      .finally(() => this.#running.delete(run));
    this.#running.add(run);
  }

  async #run({ key, tries }: Pick<LaneEvent<T>, 'key' | 'tries'>, payload: T): Promise<void> {
    const { records, dateMs, log, work } = this.#deps;
    const over = new AbortController();
    const renewing = this.#renew(key, over.signal);
    try {
      await work(payload, { key, tries }, this.#stopped.signal);
    } catch (error) {
      logFailure(log, error, 'event not carried out; it is tried again', { event: key });
      await records.change<Lane<T>>(laneKey(key), (lane) => {
        const { lane: next, isOver } = putBack(lane, key, this.#holder, dateMs());
        if (isOver) log.error({ event: key, reason: textOf(error) }, 'event given up after a day');
        return next;
      });
      return;
    } finally {
      over.abort(new CodedError('TIMEOUT', { message: 'event is over' }));
      await renewing;
    }
    this.#ended += 1;
    await records.change<Lane<T>>(laneKey(key), (lane) => finish(lane, key));
  }

  async #renew(key: string, over: AbortSignal): Promise<void> {
    const { records, dateMs, log } = this.#deps;
    while (await pause(EVENT_RENEW_MS, over)) {
      await records
        .change<Lane<T>>(laneKey(key), (lane) => renew(lane, key, this.#holder, dateMs()).lane)
        .catch((error: unknown) =>
          logFailure(log, error, 'hold of an event not renewed', { event: key }, 'debug'),
        );
    }
  }
}

function laneKey(key: string): string {
  return `events\0${Number.parseInt(key.slice(0, 4), 16) % LANES}`;
}

function textOf(error: unknown): string {
  return isCoded(error) ? `${error.code}: ${error.message}` : String(error);
}
