import { READER_LEFT_MS } from '../../deadlines/own.ts';
import { SWARM_GRACE_MS } from '../../deadlines/upstreams.ts';
import { advanceOf, errorWeight, type Failed, retryDelayMs } from './fetch-retry.ts';

/** Pieces that came different from before until the attempt is given up. */
const MAX_CONFLICTS = 2;
/** Connections in a row that sent bytes and were cut, none of which was new, until the fetch is given up. */
const MAX_FUTILE = 8;
/** Fewer bytes than this are no progress: they would come for days, and whoever waits for a piece would wait as long. */
const LEAST_PROGRESS_BYTES = 1024;

interface PaceOptions {
  /** Longest time without progress, in ms. */
  readonly progressMs: number;
  /** The same while the upstream thinks, in ms. */
  readonly firstByteMs: number;
  /** Longest time without reader where nothing but readers wants pieces, in ms. */
  readonly lingerMs: number;
}

interface PaceFacts {
  /** Somebody wants a piece that is not here. */
  readonly hungry: boolean;
  readonly readers: number;
  /** Pieces are left to the swarm. */
  readonly avoiding: boolean;
  /** Requests are out, their connections live, and none has been answered: the upstream fetches it itself. */
  readonly thinking: boolean;
}

/** What a connection that failed left. */
interface FailureFacts {
  /** Pieces are left to the swarm. */
  readonly avoiding: boolean;
  /** The connection had sent bytes. */
  readonly came: boolean;
  /** Bytes of the blob that are here. */
  readonly keptBytes: number;
  readonly missingBytes: number;
}

/** What a failed connection means for the fetch. */
export type AfterFailure =
  | { readonly type: 'fail' }
  | { readonly type: 'new-attempt' }
  | { readonly type: 'retry'; readonly inMs: number };

/**
 * The deadlines of one fetch: when it is tried again, when it has been without progress for too long, when nobody
 * wants it any more. Pure: time is passed in.
 */
export class FetchPace {
  readonly #options: PaceOptions;
  #progressAtMs: number;
  #swarmAtMs: number;
  #busyAtMs: number;
  #retryAtMs = 0;
  #failures = 0;
  #futile = 0;
  #keptBytes = 0;
  #newBytes = 0;
  #hasBegun = false;
  #conflicts = 0;

  constructor(options: PaceOptions, nowMs: number) {
    this.#options = options;
    this.#progressAtMs = nowMs;
    this.#swarmAtMs = nowMs;
    this.#busyAtMs = nowMs;
  }

  /** Bytes came. The first ones, however few, end the time that the upstream thought; later ones are none until they are many. */
  progress(bytes: number, nowMs: number): void {
    this.#newBytes += bytes;
    if (!this.#hasBegun || this.#newBytes >= LEAST_PROGRESS_BYTES) this.#progressed(nowMs);
    this.#hasBegun = true;
  }

  #progressed(nowMs: number): void {
    this.#newBytes = 0;
    this.#progressAtMs = nowMs;
  }

  /** A piece came that was missing: failures before it do not count any more. */
  landed(nowMs: number, fromSwarm: boolean): void {
    this.#progressed(nowMs);
    this.#failures = 0;
    if (fromSwarm) this.#swarmAtMs = nowMs;
  }

  /** A piece came that differs from what was known. */
  conflict(): void {
    this.#conflicts += 1;
  }

  newAttempt(nowMs: number): void {
    this.#conflicts = 0;
    this.#futile = 0;
    this.#keptBytes = 0;
    this.#hasBegun = false;
    this.#progressed(nowMs);
  }

  readerLeft(nowMs: number): void {
    this.#busyAtMs = nowMs;
  }

  /** Where nobody reads now: nobody has for a while. */
  isLeft(nowMs: number): boolean {
    return nowMs - this.#busyAtMs > READER_LEFT_MS;
  }

  /** A connection failed, and no piece has come since. */
  get hasFailed(): boolean {
    return this.#failures > 0;
  }

  mayTry(nowMs: number): boolean {
    return nowMs >= this.#retryAtMs;
  }

  /**
   * A connection that was cut on its way and brought much is resumed at once, one that brought little after a short pause;
   * pauses grow, and connections are counted, only where nothing new came.
   */
  failed(failure: Failed, facts: FailureFacts, nowMs: number): AfterFailure {
    const { code, detail } = failure;
    if (code === 'DISK_FULL' || code === 'DISK_FAILED' || code === 'INTERNAL') return { type: 'fail' };
    if (this.#conflicts >= MAX_CONFLICTS) return { type: 'new-attempt' };
    if (errorWeight(failure) === 'certain' && !facts.avoiding) return { type: 'fail' };
    const advance = facts.came ? advanceOf(facts.keptBytes - this.#keptBytes, facts.missingBytes) : 'none';
    this.#keptBytes = Math.max(this.#keptBytes, facts.keptBytes);
    if (advance !== 'none') this.#failures = this.#futile = 0;
    else if (facts.came && ++this.#futile >= MAX_FUTILE && !facts.avoiding) return { type: 'fail' };
    const retryAfterSeconds = detail?.['retryAfterSeconds'];
    const isResumed = advance === 'much' && retryAfterSeconds === undefined;
    const inMs = isResumed ? 0 : retryDelayMs(this.#failures, retryAfterSeconds);
    this.#failures += 1;
    const tooLate = nowMs + inMs > this.#progressAtMs + this.#options.progressMs;
    if (tooLate && code === 'UPSTREAM_LIMITED') return { type: 'fail' };
    this.#retryAtMs = nowMs + inMs;
    return { type: 'retry', inMs };
  }

  /** Called often: `late` and `unwanted` end the fetch. */
  tick(facts: PaceFacts, nowMs: number): 'go-on' | 'stop-avoiding' | 'late' | 'unwanted' {
    if (!facts.hungry) {
      this.#hasBegun = false;
      this.#progressed(nowMs);
      if (facts.readers > 0) this.#busyAtMs = nowMs;
      return nowMs - this.#busyAtMs > this.#options.lingerMs ? 'unwanted' : 'go-on';
    }
    const { progressMs, firstByteMs } = this.#options;
    const patienceMs = facts.thinking ? Math.max(progressMs, firstByteMs) : progressMs;
    if (nowMs - this.#progressAtMs > patienceMs) return 'late';
    return facts.avoiding && nowMs - this.#swarmAtMs > SWARM_GRACE_MS ? 'stop-avoiding' : 'go-on';
  }
}
