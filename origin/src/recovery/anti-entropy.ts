import { backoffMs } from '@sepia/base/async/backoff';
import { Passes } from '@sepia/base/async/passes';
import { isCoded } from '@sepia/base/errors';
import { logFailure, throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { BlobIndex } from '../blobs/blob-index.ts';
import type { Members } from '../cluster/members.ts';
import {
  COMPARE_REST_MS,
  MAX_COMPARE_REST_MS,
  MAX_DUTY_REST_MS,
  MIN_COMPARE_REST_MS,
} from '../deadlines/members.ts';
import { shardOf } from '../records/core/record-shard.ts';
import type { OwnStanding } from '../records/own-standing.ts';
import type { Tags } from '../records/tags.ts';
import type { RecordDigests } from './record-digests.ts';
import type { SyncPull } from './sync-pull.ts';

/** Comparisons that find a difference and nothing to take: then the digests are counted anew. */
const FRUITLESS = 8;
/** Rest after a pull that was not asked for: so many times as long as it took, up to a limit in ms. */
const DUTY = 9;
/** Registers that one comparison settles by rounds. */
const MAX_SETTLED = 500;

interface Other {
  /** Buckets that differed when they were compared last; undefined before. */
  differing: number | undefined;
  dueMs: number;
  /** Comparisons in a row that found no progress. */
  slow: number;
  /** Buckets that differed at the last comparison: a write under way, or really. */
  suspected: ReadonlySet<string>;
  /** What differs now is taken at once: it came back, or asked for it. */
  isUrgent: boolean;
  /** Until then digests are compared, and nothing is taken. */
  restUntilMs: number;
  /** Why the last comparison did not take place; undefined if it did. */
  unreached: string | undefined;
  fruitless: number;
}

interface AntiEntropyDeps {
  readonly members: Members;
  readonly standing: OwnStanding;
  readonly digests: RecordDigests;
  readonly pull: SyncPull;
  readonly blobs: BlobIndex;
  readonly tags: Pick<Tags, 'settle'>;
  readonly log: Logger;
  /** Monotonic, in ms. */
  readonly nowMs: () => number;
}

/**
 * Compares this origin's records and pushed blobs with each other owner: on start, on a timer, after a member's return,
 * and again soon as long as something differs. Each takes what it lacks. Two that agree exchange one small answer.
 */
export class AntiEntropy {
  readonly #deps: AntiEntropyDeps;
  readonly #everyMs: number;
  readonly #others = new Map<string, Other>();
  readonly #passes: Passes;
  #askAgainMs = 0;

  constructor(deps: AntiEntropyDeps, options: { readonly everyMs: number }) {
    this.#deps = deps;
    this.#everyMs = options.everyMs;
    this.#passes = new Passes({
      name: 'comparison',
      pass: async (signal) => await this.#pass(signal),
      rest: () => this.#restMs(),
      log: deps.log,
      failed: 'owners were not compared',
    });
  }

  /** Buckets of records that differ from some other owner's, as far as compared; undefined before the first whole round. */
  get differing(): number | undefined {
    let sum = 0;
    for (const id of this.#ids) {
      const { differing } = this.#others.get(id) ?? { differing: undefined };
      if (differing === undefined) return undefined;
      sum += differing;
    }
    return sum;
  }

  /** Origins that were not compared when it was tried last, and why. */
  get unreached(): ReadonlyMap<string, string> {
    const found = new Map<string, string>();
    for (const id of this.#ids) {
      const unreached = this.#others.get(id)?.unreached;
      if (unreached !== undefined) found.set(id, unreached);
    }
    return found;
  }

  start(): void {
    this.#passes.start();
  }

  async stop(): Promise<void> {
    await this.#passes.stop();
  }

  /** Compares with one soon: it came back, or took something over. */
  soon(id: string): void {
    const other = this.#other(id);
    other.slow = 0;
    other.isUrgent = true;
    other.dueMs = Math.min(other.dueMs, this.#deps.nowMs() + COMPARE_REST_MS);
    this.#passes.wake();
  }

  /** Asks for wanted blobs soon: some were found to be gone. */
  askSoon(): void {
    this.#passes.wake();
  }

  get #ids(): string[] {
    const { members } = this.#deps;
    return members.ids.filter((id) => id !== members.selfId);
  }

  #other(id: string): Other {
    let other = this.#others.get(id);
    if (other === undefined) {
      other = {
        differing: undefined,
        dueMs: 0,
        slow: 0,
        fruitless: 0,
        suspected: new Set(),
        isUrgent: true,
        restUntilMs: 0,
        unreached: undefined,
      };
      this.#others.set(id, other);
    }
    return other;
  }

  async #pass(signal: AbortSignal): Promise<void> {
    for (const id of this.#ids) {
      const other = this.#other(id);
      if (other.dueMs > this.#deps.nowMs() || signal.aborted) continue;
      await this.#compare(id, other);
    }
    await this.#askAgain();
  }

  /** Until the next comparison is due. */
  #restMs(): number {
    const dueMs = Math.min(...this.#ids.map((id) => this.#other(id).dueMs), Number.MAX_SAFE_INTEGER);
    const nowMs = this.#deps.nowMs();
    // What none of them has brought is asked for again, however seldom they are compared.
    const { blobs, standing } = this.#deps;
    const isAsked = blobs.wanted > 0 && standing.isSettled;
    const nextMs = isAsked ? Math.min(dueMs, this.#askAgainMs) : dueMs;
    return Math.min(this.#everyMs, Math.max(MIN_COMPARE_REST_MS, nextMs - nowMs));
  }

  async #compare(id: string, other: Other): Promise<void> {
    const { pull, standing, blobs, log, nowMs } = this.#deps;
    const { signal } = this.#passes;
    // A start hands over; what it takes is not repaired at the same time.
    if (!standing.isSettled) return this.#plan(other, 'slower');
    try {
      const found = await pull.differing(id, signal);
      other.unreached = undefined;
      // What differs for the first time may be a write that has not reached both yet.
      const beganMs = nowMs();
      const isLasting = (name: string): boolean =>
        other.isUrgent || (beganMs >= other.restUntilMs && other.suspected.has(name));
      const buckets = new Set([...found].filter(isLasting));
      other.isUrgent = false;
      const { records, unsettled } = await pull.pull(id, 'repair', buckets, signal);
      for (const key of unsettled.slice(0, MAX_SETTLED)) await this.#settle(key);
      const before = other.differing;
      other.suspected = buckets.size === 0 ? found : await pull.differing(id, signal);
      other.differing = other.suspected.size;
      // Whatever others write meanwhile, taking takes a tenth of the time at most.
      if (buckets.size > 0) {
        const endMs = nowMs();
        other.restUntilMs = endMs + Math.min(MAX_DUTY_REST_MS, (endMs - beganMs) * DUTY);
      }
      if (records > 0) log.info({ id, records, differing: other.differing }, 'records repaired');
      const isFruitless = other.differing > 0 && buckets.size > 0 && records === 0 && blobs.wanted === 0;
      other.fruitless = isFruitless ? other.fruitless + 1 : 0;
      if (other.fruitless >= FRUITLESS) {
        other.fruitless = 0;
        this.#deps.digests.reset();
      }
      this.#plan(other, other.differing === 0 ? 'whole' : other.differing === before ? 'slower' : 'soon');
    } catch (error) {
      if (signal.aborted) return;
      if (isCoded(error, 'ROUTE_UNKNOWN')) {
        // A member of the version before: nothing can be compared.
        other.differing = 0;
        this.#plan(other, 'whole');
        return;
      }
      // A bug ends this comparison, never all of them: what is owed would be owed for ever.
      logFailure(log, error, 'not compared', { id }, 'debug');
      other.unreached = isCoded(error) ? error.code : 'INTERNAL';
      this.#plan(other, 'slower');
    }
  }

  async #askAgain(): Promise<void> {
    const { pull, blobs, standing, log, nowMs } = this.#deps;
    if (blobs.wanted === 0 || !standing.isSettled || nowMs() < this.#askAgainMs) return;
    this.#askAgainMs = nowMs() + MAX_COMPARE_REST_MS;
    try {
      await pull.askAgain(this.#passes.signal);
    } catch (error) {
      if (!this.#passes.signal.aborted)
        logFailure(log, error, 'wanted blobs were not asked for', {}, 'debug');
    }
  }

  #plan(other: Other, how: 'whole' | 'soon' | 'slower'): void {
    const nowMs = this.#deps.nowMs();
    other.slow = how === 'slower' ? other.slow + 1 : 0;
    const soonMs = backoffMs(other.slow + 1, COMPARE_REST_MS, Math.min(MAX_COMPARE_REST_MS, this.#everyMs));
    other.dueMs = nowMs + (how === 'whole' ? this.#everyMs : soonMs);
  }

  async #settle(key: string): Promise<void> {
    const { members, tags, log } = this.#deps;
    const shard = shardOf('r1', key);
    if (shard === undefined) return;
    try {
      await tags.settle(key, () => members.shard(shard));
    } catch (error) {
      throwIfBug(error);
      log.debug({ reason: String(error) }, 'a register is not settled yet');
    }
  }
}
