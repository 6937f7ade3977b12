import { boundedMs } from '@sepia/base/bounded-ms';
import { FINAL_ATTEMPT, type Metainfo } from '@sepia/metainfo/metainfo';
import { Patience, type PatienceLimits } from './patience.ts';

/** Least pause between two joins at the trackers, in ms. */
export const FIND_AGAIN_MS = 200;
/** Longest pause between two joins that a tracker is believed, in ms. */
const MAX_FIND_MS = 3_600_000;
/** A piece within this many of the fetch's front comes by itself. */
const NEAR_PIECES = 4;
/** A download for ranges alone ends when nobody read for this long, in ms; what came stays on disk. */
const RANGES_IDLE_MS = 60_000;

export type CourseState = 'running' | 'final' | 'failed';

/** Who is there to read a download. */
export interface Audience {
  /** Nothing is to be fetched now. */
  readonly idle: boolean;
  /** Nobody is there that will read it. */
  readonly left: boolean;
}

/**
 * The course of one download: `running → final | failed`, what is done at each look at it, and when peers are looked for
 * again. Pure: time is passed in, what is done is the download's.
 */
export class Course {
  readonly #patience: Patience;
  #state: CourseState = 'running';
  #error: unknown;
  #isFinishing = false;
  #isLooking = false;
  #wanted = false;
  #dueMs = 0;

  constructor(limits: PatienceLimits, nowMs: number) {
    this.#patience = new Patience(limits, nowMs);
  }

  get state(): CourseState {
    return this.#state;
  }

  /** Why it failed. */
  get error(): unknown {
    return this.#error;
  }

  silentMs(nowMs: number): number {
    return this.#patience.silentMs(nowMs);
  }

  /** Something came, or somebody came who waits from now on. */
  progress(nowMs: number): void {
    this.#patience.progress(nowMs);
  }

  /** Somebody has bytes of it. */
  begun(): void {
    this.#patience.begun();
  }

  /**
   * What to do now; called often. `look`: to ask what the origins have got, until {@link looked}; `end`: nobody reads it
   * any more; `give-up`: nobody served a piece for too long.
   */
  next(audience: Audience, isOpen: boolean, nowMs: number): 'wait' | 'look' | 'give-up' | 'end' {
    if (this.#state !== 'running') return 'wait';
    if (audience.idle) return audience.left && this.silentMs(nowMs) > RANGES_IDLE_MS ? 'end' : 'wait';
    if (this.#isLooking) return 'wait';
    const step = this.#patience.next(nowMs, isOpen);
    this.#isLooking = step === 'look';
    return step;
  }

  /** The look is over; the origins have got so much. */
  looked(fetchedBytes: number, nowMs: number): void {
    this.#isLooking = false;
    this.#patience.fetched(fetchedBytes, nowMs);
  }

  /** True once, when all is there and proven to be: whoever hears it checks the whole and says {@link finish}. */
  mayFinish(isComplete: boolean, isFinal: boolean): boolean {
    if (this.#isFinishing || this.#state !== 'running' || !isComplete || !isFinal) return false;
    this.#isFinishing = true;
    return true;
  }

  /** `running → final`. False if it failed meanwhile. */
  finish(): boolean {
    if (this.#state !== 'running') return false;
    this.#state = 'final';
    return true;
  }

  /** `running → failed`. False if it has ended. */
  fail(error: unknown): boolean {
    if (this.#state !== 'running') return false;
    this.#state = 'failed';
    this.#error = error;
    return true;
  }

  /** Peers are wanted before the tracker's pause is over. */
  want(): void {
    this.#wanted = true;
  }

  /** Peers were asked for; whoever wants them from now on wants more. */
  asked(): void {
    this.#wanted = false;
  }

  /** The tracker wants to be asked again after so long. */
  pause(intervalMs: number, nowMs: number): void {
    this.#dueMs = nowMs + boundedMs(intervalMs, FIND_AGAIN_MS, MAX_FIND_MS);
  }

  /** Peers are to be looked for now. */
  isFindDue(nowMs: number): boolean {
    return this.#wanted || nowMs >= this.#dueMs;
  }
}

/** A piece that only comes if it is asked for, out of order where the upstream honours Range. */
export function isFar(metainfo: Metainfo, index: number, wantsAll: boolean): boolean {
  if (metainfo.state !== 'open' || metainfo.knows(index)) return false;
  return !wantsAll || index > metainfo.knownPrefix + NEAR_PIECES;
}

/**
 * What a piece is worth that an origin vouches for, of the attempt that it names. `ours`: its hash is right here too;
 * `other`: the origin fetches anew, and a tracker must be asked; `late`: all hashes are known.
 */
export function worthOf(metainfo: Metainfo, attempt: string): 'ours' | 'other' | 'late' {
  if (metainfo.state !== 'open') return 'late';
  return attempt === metainfo.attempt || attempt === FINAL_ATTEMPT ? 'ours' : 'other';
}
